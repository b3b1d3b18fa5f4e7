"""Reads what a container's processes take of memory: off the loop, one reading at a time, and never for long."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from hal0.engine.program import printed
from hal0.hardware import fdinfo, nvidia, processes
from hal0.hardware.footprint import Footprint
from hal0.lib.aside import Aside

_READ_S: Final = 3.0  # it takes some milliseconds, unless a driver hangs
_ASK_S: Final = 5.0  # a GPU that sleeps is woken by the question


class Gauge:
    """Below `root`. A driver that hangs costs one thread, not one per question: until it answers nobody can tell."""

    def __init__(self, root: Path = Path("/"), ask: Sequence[str] = nvidia.COMMAND) -> None:
        self._root = root
        self._ask = ask
        self._one_by_one = asyncio.Lock()
        self._reading = Aside(self._read)

    async def of(self, pids: Collection[int]) -> Footprint | None:
        """What these processes take together; None where that cannot be read now."""
        async with self._one_by_one:
            if self._reading.hangs or (read := await self._reading.within(_READ_S, pids)) is None:
                return None
            found, by_nvidia = read
            more = nvidia.parse(await printed(self._ask, timeout_s=_ASK_S) or (), pids) if by_nvidia else ()
            return Footprint(found.resident_bytes, (*found.gpus, *more))

    def _read(self, pids: Collection[int]) -> tuple[Footprint, bool]:
        """What the kernel tells, and whether NVIDIA's driver has more to tell."""
        found = Footprint(processes.resident_bytes(pids, self._root), fdinfo.held(pids, self._root))
        return found, nvidia.present(self._root)
