"""Looks at the machine when somebody asks: off the loop, one look at a time for all who ask, and never for long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hal0.engine.program import printed
from hal0.hardware import disk, live, nvidia, survey
from hal0.hardware.advice import Podman
from hal0.hardware.cpu import Cpu
from hal0.hardware.disk import Disk
from hal0.hardware.live import GpuLive, Moment
from hal0.hardware.memory import Memory
from hal0.hardware.pools import MemoryPool, pools
from hal0.hardware.snapshot import Machine
from hal0.hardware.survey import Survey
from hal0.lib.aio import SingleFlight
from hal0.lib.aside import Aside
from hal0.lib.clock import Clock

_READ_S: Final = 3.0  # it takes some milliseconds, unless a driver or a network filesystem hangs
_ASK_S: Final = 5.0  # a GPU that sleeps is woken by the question
# Below this two looks have too few ticks (100 a second) between them to say how busy the processors are.
_BUSY_OVER_S: Final = 0.25

Figures = Mapping[str, nvidia.CardFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One look. `at` is when, in seconds since the epoch; `late`: a driver hangs, so this is an older look.

    `cpu_busy` (0-1) is over the time since the look before; None at the first one. `disks` are by what they hold.
    """

    survey: Survey
    moment: Moment
    cpu_busy: float | None
    disks: Mapping[str, Disk]
    podman: Podman
    at: float
    own_cgroup: bool = True  # as in `hardware.pools`
    late: bool = False

    @property
    def pools(self) -> tuple[MemoryPool, ...]:
        return pools(self.survey.machine, own_cgroup=self.own_cgroup)


class Prober:
    """Below `root`. `places` are folders by what they hold; `podman` says what is known of it, without asking."""

    def __init__(
        self,
        places: Callable[[], Mapping[str, Path]],
        podman: Callable[[], Podman],
        clock: Clock,
        *,
        own_cgroup: bool = True,
        root: Path = Path("/"),
        ask: Sequence[str] = nvidia.CARDS_COMMAND,
    ) -> None:
        self._places = places
        self._podman = podman
        self._clock = clock
        self._own_cgroup = own_cgroup
        self._root = root
        self._ask = ask
        self._looks: SingleFlight[Found] = SingleFlight()
        self._reading = Aside(self._read)
        self._before: tuple[float, Moment] | None = None
        self._last = Found(
            survey=Survey(machine=Machine(cpu=Cpu(), memory=Memory(0, 0))),
            moment=Moment(),
            cpu_busy=None,
            disks={},
            podman=Podman(),
            at=clock.now(),
            late=True,
        )

    async def look(self) -> Found:
        """The machine now; as it was last when it cannot be read now. Never raises."""
        return await self._looks.run("look", self._look)

    async def survey(self) -> Survey:
        """As `look`, without what moves."""
        return (await self.look()).survey

    async def _look(self) -> Found:
        if (read := await self._reading.within(_READ_S, dict(self._places()))) is None:
            return replace(self._last, late=True)
        figures = await self._told() if read.by_nvidia else {}
        self._last = self._found(read, figures)
        return self._last

    def _read(self, places: Mapping[str, Path]) -> "_Read":
        found = survey.read(self._root)
        moment = live.read(found.machine, self._root)
        disks = {what: at for what, place in places.items() if (at := disk.read(place, self._root)) is not None}
        return _Read(found, moment, disks, nvidia.present(self._root))

    def _found(self, read: "_Read", figures: Figures) -> Found:
        now, busy = self._clock.now(), self._last.cpu_busy
        if self._before is None or now - self._before[0] >= _BUSY_OVER_S:
            busy = None if self._before is None else live.cpu_busy(self._before[1], read.moment)
            self._before = (now, read.moment)
        gpus = tuple(nvidia.with_memory(gpu, figures) for gpu in read.survey.machine.gpus)
        return Found(
            survey=replace(read.survey, machine=replace(read.survey.machine, gpus=gpus)),
            moment=replace(
                read.moment, gpus=tuple(_with_work(gpu, figures.get(gpu.address)) for gpu in read.moment.gpus)
            ),
            cpu_busy=busy,
            disks=read.disks,
            podman=self._podman(),
            at=now,
            own_cgroup=self._own_cgroup,
        )

    async def _told(self) -> Figures:
        return nvidia.parse_cards(await printed(self._ask, timeout_s=_ASK_S) or ())


@dataclass(frozen=True, slots=True)
class _Read:
    survey: Survey
    moment: Moment
    disks: Mapping[str, Disk]
    by_nvidia: bool


def _with_work(gpu: GpuLive, told: nvidia.CardFigures | None) -> GpuLive:
    if told is None:
        return gpu
    return replace(gpu, busy=told.busy, temperature_c=told.temperature_c, power_w=told.power_w)
