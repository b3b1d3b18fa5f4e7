"""Measures this machine's memory for the steward: what hangs costs its own figures, and never an answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from hal0.engine.program import printed
from hal0.hardware import nvidia, snapshot
from hal0.hardware.cards import Gpu
from hal0.hardware.cpu import Cpu
from hal0.hardware.memory import Memory
from hal0.hardware.nvidia import CardFigures
from hal0.hardware.snapshot import Devices, Machine
from hal0.lib.aio import cancelled
from hal0.lib.aside import Aside
from hal0.lib.clock import Clock

T = TypeVar("T")

UNKNOWN: Final = Machine(cpu=Cpu(), memory=Memory(0, 0))  # nobody has looked yet: nothing is refused for it

_READ_S: Final = 2.0  # it takes some milliseconds, unless a driver hangs
# NVIDIA's figures come from a process that wakes the GPU: seldom by the way, and for a load about to be let in anew.
_BY_THE_WAY_S: Final = 60.0
_ANEW_S: Final = 2.0
_ASK_S: Final = 5.0  # a GPU that sleeps is woken by the question
_WITHOUT_S: Final = 60.0  # after a question that brought no answer


class Measuring:
    """Below `root`; `ask` prints what NVIDIA's cards have. Implements `steward.Measure`."""

    def __init__(self, clock: Clock, *, root: Path = Path("/"), ask: Sequence[str] = nvidia.CARDS_COMMAND) -> None:
        self._system = Aside(lambda: snapshot.read_system(root))
        self._devices = Aside(lambda: snapshot.read_devices(root))
        self._nvidia = _Asked(clock, ask)
        self._known, self._seen = UNKNOWN, Devices()

    async def __call__(self, *, anew: bool) -> Machine:
        """What is there. A driver that hangs tells nothing of what is free; what there is was known before.

        `anew`: figures that have to be asked for are asked for now; else what is known of them is good enough.
        """
        system, devices = await _told(self._system), await _told(self._devices)
        self._known = system or self._known
        self._seen = devices or replace(self._seen, gpus=tuple(_silent(gpu) for gpu in self._seen.gpus))
        told = await self._nvidia.figures(anew=anew) if self._seen.asks_nvidia else {}
        gpus = tuple(nvidia.with_memory(gpu, told) for gpu in self._seen.gpus)
        return replace(self._known, gpus=gpus, npus=self._seen.npus)

    async def aclose(self) -> None:
        await self._nvidia.aclose()


async def _told(reading: Aside[[], T]) -> T | None:
    """Whoever waits for memory does not wait for the same driver again and again."""
    return None if reading.hangs else await reading.within(_READ_S)


def _silent(gpu: Gpu) -> Gpu:
    return replace(gpu, vram_used=None, visible_vram_used=None, gtt_used=None)


class _Asked:
    """What NVIDIA's program said last, and one question at a time."""

    def __init__(self, clock: Clock, ask: Sequence[str]) -> None:
        self._clock = clock
        self._ask = ask
        self._told: Mapping[str, CardFigures] = {}
        self._due = self._due_anew = 0.0  # when to ask again by the way, and for a load about to be let in
        self._asking: asyncio.Task[None] | None = None

    async def figures(self, *, anew: bool) -> Mapping[str, CardFigures]:
        if self._asking is None and self._clock.now() >= (self._due_anew if anew else self._due):
            self._asking = asyncio.create_task(self._question(), name="nvidia-smi")
        if anew and self._asking is not None:
            await asyncio.wait({self._asking})
        return self._told

    async def _question(self) -> None:
        try:
            found = nvidia.parse_cards(await printed(self._ask, timeout_s=_ASK_S) or ())
            now = self._clock.now()
            self._due, self._due_anew = now + _BY_THE_WAY_S, now + (_ANEW_S if found else _WITHOUT_S)
            # Without an answer what is used is not known any more; what there is does not change.
            silent = {address: replace(told, used_bytes=None) for address, told in self._told.items()}
            self._told = found or silent
        finally:
            self._asking = None

    async def aclose(self) -> None:
        if self._asking is not None:
            await cancelled(self._asking)
