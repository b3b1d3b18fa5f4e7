"""Reads what a container's processes take of memory: off the loop, one reading at a time, and never for long."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from hal0.engine.program import run_program
from hal0.hardware import fdinfo, nvidia, processes
from hal0.hardware.footprint import Footprint, GpuBytes

_READ_S: Final = 3.0  # it takes some milliseconds, unless a driver hangs
_ASK_S: Final = 5.0  # a GPU that sleeps is woken by the question


class Gauge:
    """Below `root`. A driver that hangs costs one thread, not one per question: until it answers nobody can tell."""

    def __init__(self, root: Path = Path("/"), ask: Sequence[str] = nvidia.COMMAND) -> None:
        self._root = root
        self._ask = ask
        self._one_by_one = asyncio.Lock()
        self._reading: asyncio.Future[tuple[Footprint, bool]] | None = None

    async def of(self, pids: Collection[int]) -> Footprint | None:
        """What these processes take together; None where that cannot be read now."""
        async with self._one_by_one:
            if self._reading is not None and not self._reading.done():
                return None
            reading = self._reading = asyncio.ensure_future(asyncio.to_thread(self._read, pids))
            await asyncio.wait({reading}, timeout=_READ_S)
            if not reading.done():
                return None
            found, by_nvidia = reading.result()
            more = await self._told(pids) if by_nvidia else ()
            return Footprint(found.resident_bytes, (*found.gpus, *more))

    def _read(self, pids: Collection[int]) -> tuple[Footprint, bool]:
        """What the kernel tells, and whether NVIDIA's driver has more to tell."""
        found = Footprint(processes.resident_bytes(pids, self._root), fdinfo.held(pids, self._root))
        return found, nvidia.present(self._root)

    async def _told(self, pids: Collection[int]) -> tuple[GpuBytes, ...]:
        """Nothing where the driver's program is missing, fails or takes too long."""
        lines: list[str] = []
        try:
            ended = await run_program(self._ask, timeout_s=_ASK_S, on_line=lines.append)
        except (OSError, TimeoutError):
            return ()
        return nvidia.parse(lines, pids) if ended.status == 0 else ()
