"""Keys and sessions in memory and in `keys.json`: read at boot, written whole, told to whoever remembers verdicts."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hal0.access.keys import KeyRecord, SessionRecord
from hal0.access.records import AccessRecords, DamagedKeysError, NewerKeysError, dump, load
from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic

_log: Final = logging.getLogger("hal0.access")

_LAZY_S: Final = 60.0  # "last used" may be a minute behind on disk; a write per request would be absurd


class AccessStore:
    """`version` grows with every change that a verdict may depend on. `problem` is what somebody should look at.

    `keys` and `sessions` are by their ids.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.version = 0
        self.problem: str | None = None
        self.keys: dict[str, KeyRecord] = {}
        self.sessions: dict[str, SessionRecord] = {}
        self._stale = asyncio.Event()
        self._writing = asyncio.Lock()
        self._ended: list[Callable[[str], None]] = []
        self._ending: list[Callable[[str, float], None]] = []

    def load(self) -> bool:
        """Read the file; False when there is none. Blocking, at boot.

        A damaged file is moved aside and said in `problem`. Raises state.newer, and state.write_failed for a file
        that cannot be read at all.
        """
        try:
            self._narrow()
            records = load(self.file.read_bytes())
        except FileNotFoundError:
            return False
        except NewerKeysError as err:
            raise Hal0Error("state.newer", f"cannot read {self.file}: {err}") from err
        except DamagedKeysError as err:
            self._move_aside(err)
            return True
        except OSError as err:
            raise Hal0Error("state.write_failed", f"cannot read {self.file}: {err.strerror or err}") from err
        self.keys = {key.id: key for key in records.keys}
        self.sessions = {session.id: session for session in records.sessions}
        return True

    def on_ended(self, told: Callable[[str], None]) -> None:
        """`told` hears the id of every key and session whose open connections have to end."""
        self._ended.append(told)

    def on_ending(self, told: Callable[[str, float], None]) -> None:
        """`told` hears of keys whose open connections have to end at a certain time (the clock's)."""
        self._ending.append(told)

    def end_at(self, proof_id: str, at: float) -> None:
        for told in self._ending:
            told(proof_id, at)

    def end(self, proof_id: str) -> None:
        for told in self._ended:
            told(proof_id)

    def changed(self) -> None:
        """A verdict may be another one now."""
        self.version += 1

    def stale(self) -> None:
        """Something is newer in memory than on disk, and may stay so for a minute."""
        self._stale.set()

    async def save(self) -> None:
        """Write everything. Raises state.write_failed; the old file is then as it was."""
        async with self._writing:
            self._stale.clear()
            data = dump(AccessRecords(keys=tuple(self.keys.values()), sessions=tuple(self.sessions.values())))
            try:
                await asyncio.to_thread(write_atomic, self.file, data)
            except OSError as err:
                self._stale.set()
                raise Hal0Error("state.write_failed", f"cannot write {self.file}: {err.strerror or err}") from err

    async def keep_saving(self) -> None:
        """Write what is stale once a minute; runs for ever."""
        while True:
            await self._stale.wait()
            await asyncio.sleep(_LAZY_S)
            await self._save_if_stale()

    async def close(self) -> None:
        await self._save_if_stale()

    async def _save_if_stale(self) -> None:
        if self._stale.is_set():
            with contextlib.suppress(Hal0Error):  # said to whoever changes something; "last used" is not worth a word
                await self.save()

    def _narrow(self) -> None:
        mode = self.file.stat().st_mode & 0o777
        if mode & 0o077:
            self.file.chmod(0o600)
            _log.warning("%s could be read by others (mode %o); it is private now", self.file, mode)

    def _move_aside(self, why: DamagedKeysError) -> None:
        aside = self.file.with_name(f"{self.file.name}.damaged")
        with contextlib.suppress(OSError):
            self.file.replace(aside)
        self.problem = (
            f"{self.file} is damaged ({why}) and was moved to {aside}: no key is valid any more; "
            "make new ones with: hal0ctl key create NAME"
        )
        _log.error("%s", self.problem)
