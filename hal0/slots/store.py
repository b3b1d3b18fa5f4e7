"""The files of the slots: state.json, env, override.env, secrets, written by one thread in the order asked for."""

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.aside import OneThread
from hal0.lib.atomic import private_dir, write_atomic
from hal0.slots.record import DamagedRecordError, NewerRecordError, SlotRecord, dump, load
from hal0.vocab import SlotName

log = logging.getLogger(__name__)

OVERRIDE_KEY: Final = "HAL0_MODEL"
_SECRETS: Final = "secret.*"
# A write takes milliseconds, on a slow card that somebody copies to some seconds. Beyond that the disk is ill.
_WRITE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier hal0 left of one slot; `model` is the live one, once a load has written it."""

    record: SlotRecord | None
    secrets: Mapping[int, str] = field(repr=False)  # by the generation of the container that asks for it
    model: str | None
    failure: bytes | None = None  # last-failure.json
    gpu: bytes | None = None  # gpu.json: of an image slot, who comes back to its GPU


class SlotStore:
    """Files below `<state>/slots/<name>/`. Reads happen at boot; writes go through the one writer thread.

    A disk that hangs refuses as a full one does: nobody waits for it, and what hangs is not added to.
    """

    def __init__(self, slots_dir: Path) -> None:
        self._dir = slots_dir
        self._writer = OneThread("hal0-state")
        self._latest: asyncio.Future[None] | None = None
        self._hangs: asyncio.Future[None] | None = None
        self._landed = 0

    def directory(self, slot: str) -> Path:
        return self._dir / slot

    async def write_record(self, record: SlotRecord) -> None:
        """Raises state.write_failed and leaves the old record as it was."""
        await self._write(self._dir / record.name / "state.json", dump(record))

    async def write_env(self, slot: str, env: dict[str, str]) -> None:
        """The container's environment, for people to read."""
        await self._write(self._dir / slot / "env", env_text(env))

    async def write_override(self, slot: str, model: str) -> None:
        """The live model: from the first load on this decides, not the configuration's seed."""
        await self._write(self._dir / slot / "override.env", env_text({OVERRIDE_KEY: model}))

    async def write_failure(self, slot: str, failure: bytes) -> None:
        """Why the slot failed last; stays when it is well again."""
        await self._write(self._dir / slot / "last-failure.json", failure)

    async def write_gpu(self, slot: str, state: bytes) -> None:
        """Who has the GPU of an image slot, and who comes back to it. Raises state.write_failed."""
        await self._write(self._dir / slot / "gpu.json", state)

    async def write_secret(
        self, slot: str, generation: int, *, reader: int | None = None, keep: Collection[int] = ()
    ) -> str:
        """A fresh random secret for one generation; of the earlier ones only those of `keep` stay.

        `reader` is the user who has to read it inside the container, where that is somebody else than hal0.
        """
        secret = secrets.token_urlsafe(32)
        # Without root rights hal0 cannot give a file away, and need not: its containers' processes are itself.
        owner = reader if os.geteuid() == 0 else None
        await self._in_turn(path := self.secret_path(slot, generation), _write, path, secret.encode(), owner)
        needed = {self.secret_path(slot, number) for number in (generation, *keep)}
        await self._in_turn(self.directory(slot), _remove_others, self.directory(slot), needed)
        return secret

    async def forget(self, slot: str) -> None:
        """Remove all files of a slot, after every write that was asked for. Raises state.write_failed."""
        await self._in_turn(self.directory(slot), _remove, self.directory(slot))

    async def _write(self, path: Path, data: bytes) -> None:
        await self._in_turn(path, _write, path, data)

    async def _in_turn(self, path: Path, work: Callable[..., None], *arguments: object) -> None:
        if self._hangs is not None and not self._hangs.done():
            raise _unwritten(path, "the disk does not answer")
        writing = asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)
        writing.add_done_callback(self._ended)
        self._latest = writing
        while not writing.done():
            landed = self._landed
            await asyncio.wait({writing}, timeout=_WRITE_S)
            if not writing.done() and self._landed == landed:  # nor has anything that came before it
                self._hangs = writing
                raise _unwritten(path, "the disk does not answer")
        try:
            writing.result()
        except OSError as err:
            raise _unwritten(path, str(err.strerror or err)) from err

    def _ended(self, writing: "asyncio.Future[None]") -> None:
        self._landed += 1
        if not writing.cancelled():
            writing.exception()  # who asked for it may have left: an unread failure is no warning

    async def read(self, slots: Iterable[str]) -> dict[SlotName, Remembered]:
        """What the disk remembers of these slots. Raises state.newer."""
        return await asyncio.to_thread(lambda: {SlotName(slot): self._read(slot) for slot in slots})

    def _read(self, slot: str) -> Remembered:
        failure, gpu = (self._dir / slot / name for name in ("last-failure.json", "gpu.json"))
        return Remembered(
            self.read_record(slot),
            self._read_secrets(slot),
            self._read_override(slot),
            failure.read_bytes() if failure.is_file() else None,
            gpu.read_bytes() if gpu.is_file() else None,
        )

    # -- blocking:  ------------------------------------------------

    def read_record(self, slot: str) -> SlotRecord | None:
        """The record, or None when there is none or it is damaged (then it is moved aside and reported).

        Raises state.newer for one that a newer hal0 wrote.
        """
        path = self._dir / slot / "state.json"
        try:
            return load(path.read_bytes())
        except FileNotFoundError:
            return None
        except NewerRecordError as err:
            raise Hal0Error("state.newer", f"cannot read {path}: {err}") from err
        except DamagedRecordError as err:
            aside = path.with_name("state.json.damaged")
            path.replace(aside)
            log.warning("record of slot %s is damaged (%s); moved to %s, rebuilding it from podman", slot, err, aside)
            return None

    def _read_secrets(self, slot: str) -> dict[int, str]:
        files = {file.suffix[1:]: file for file in (self._dir / slot).glob(_SECRETS)}
        return {int(number): file.read_text().strip() for number, file in files.items() if number.isdigit()}

    def _read_override(self, slot: str) -> str | None:
        """The live model, when a load has written it."""
        try:
            text = (self._dir / slot / "override.env").read_text()
        except FileNotFoundError:
            return None
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key == OVERRIDE_KEY and value:
                return value
        return None

    def secret_path(self, slot: str, generation: int) -> Path:
        return self._dir / slot / f"secret.{generation}"

    async def aclose(self) -> None:
        """Wait for the writes under way, for as long as a write may take."""
        if self._latest is not None:
            await asyncio.wait({self._latest}, timeout=_WRITE_S)
        self._writer.shutdown()


def _unwritten(path: Path, why: str) -> Hal0Error:
    return Hal0Error("state.write_failed", f"cannot write {path}: {why}", details={"path": str(path)})


def env_text(env: dict[str, str]) -> bytes:
    """KEY=value lines, sorted; values cannot hold line ends by construction of the configuration."""
    return "".join(f"{key}={value}\n" for key, value in sorted(env.items())).encode()


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _remove_others(directory: Path, needed: Collection[Path]) -> None:
    for file in directory.glob(_SECRETS):
        if file not in needed:
            file.unlink(missing_ok=True)


def _write(path: Path, data: bytes, owner: int | None = None) -> None:
    private_dir(path.parent)
    write_atomic(path, data, owner=owner)
