"""What was built on this machine: one file that outlives hal0 and remembers former builds until they are removed."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic
from hal0.lib.clock import Clock
from hal0.lib.jsonio import JSONDecodeError, dumps_pretty, loads

_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class _Record:
    """`built` by key of the manifest, `former` the ids of builds that another has taken the place of."""

    built: dict[str, dict[str, Any]]
    former: tuple[str, ...] = ()


class Builds:
    """The record of builds in one file. An unreadable one counts as none: the local tags still tell."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._writing = asyncio.Lock()  # two builds may end at once, and both are remembered

    async def ids(self) -> dict[str, str]:
        """The image that counts, by key."""
        return {key: build["id"] for key, build in (await self._read()).built.items()}

    async def former(self) -> frozenset[str]:
        """The images that were built before those that count, as far as they have not been forgotten."""
        return frozenset((await self._read()).former)

    async def remember(self, key: str, image_id: str, tag: str) -> None:
        """Raises state.write_failed."""

        def with_it(record: _Record) -> _Record:
            before = record.built.get(key, {}).get("id", image_id)
            former = {*record.former, before} - {image_id}
            built = record.built | {key: {"id": image_id, "tag": tag, "built_at": self._clock.now()}}
            return _Record(built, tuple(sorted(former)))

        await self._change(with_it, f"remember the build of {key}")

    async def forget(self, image_ids: Collection[str]) -> None:
        """Former builds that are here no more. Raises state.write_failed."""

        def without(record: _Record) -> _Record:
            return _Record(record.built, tuple(one for one in record.former if one not in image_ids))

        await self._change(without, "forget images that are gone")

    async def _change(self, change: Callable[[_Record], _Record], doing: str) -> None:
        async with self._writing:
            record = await self._read()
            changed = change(record)
            if changed == record:
                return
            document = dumps_pretty({"schema": _SCHEMA, "built": changed.built, "former": list(changed.former)})
            try:
                await asyncio.to_thread(write_atomic, self._file, document)
            except OSError as fault:
                raise Hal0Error("state.write_failed", f"cannot {doing}: {fault}") from fault

    async def _read(self) -> _Record:
        try:
            document = loads(await asyncio.to_thread(self._file.read_bytes))
        except (FileNotFoundError, JSONDecodeError):
            return _Record({})
        if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
            return _Record({})
        return _Record(dict(document["built"]), tuple(document.get("former", ())))
