"""Random lives of the real gate before the real supervisor, where two slots do not fit into memory together."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.gate import Gate
from hal0.dispatch.pace import Pace
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.slots.jobs import Job
from hal0.slots.slot import Slot
from hal0.vocab import Phase, SlotName
from tests.fakes.engine import FakeEngine
from tests.fakes.program import Program
from tests.fakes.world import Disk, Running, World
from tests.vloop import until, virtual, virtual_time

SLOTS = PRIMARY, EMBED = SlotName("primary"), SlotName("embed")
ROOM_BYTES = 300 * 2**20  # each slot needs some 150 MiB
HOLD_S = (0.0, 5.0, 60.0)
# How a request may end but with an answer; anything else is a mistake.
REFUSALS = {
    "slot.loading", "slot.load_cancelled", "slot.crash_looping", "slot.load_failed", "slot.queue_full",
}  # fmt: skip


class Life:
    """One seed's requests, operators and crashes.

    `wrong`: requests that were cut without a fault of their slot, refused late, or beside a second container.
    """

    def __init__(self, hal0: Running, seed: int) -> None:
        self.hal0, self.dice = hal0, random.Random(seed)
        config = DispatchConfig(max_wait_s=self.dice.choice((1.0, 20.0)), min_residency_s=self.dice.choice((0.0, 3.0)))
        self.gate = Gate(hal0.supervisor, hal0.tools.clock, config, Pace((), lambda: 0.0))
        self.tasks: list[asyncio.Task[None]] = []
        self.answered = 0
        self.wrong: list[str] = []

    async def request(self, name: SlotName, hold_s: float, takes_s: float) -> None:
        handle, came = self.hal0.supervisor.slot(name), self.hal0.tools.clock.now()
        trace = Trace("r", came, came, "POST", "/v1/chat/completions", self.dice.choice((None, "x", "y")))
        try:
            admitted = self.gate.straight(handle, handle.snapshot())
            if admitted is None:
                admitted = await self.gate.enter(handle, trace, hold_s=hold_s, patience_s=hold_s)
        except Hal0Error as error:
            if error.code not in REFUSALS or self.hal0.tools.clock.now() - came > hold_s + 0.01:
                self.wrong.append(f"{error.code} after {self.hal0.tools.clock.now() - came} s of {hold_s}")
            return
        if len(self.hal0.world.engine.running) > 1:
            self.wrong.append(f"two of them run: {self.hal0.world.engine.running}")
        ended = asyncio.Event()

        def aborted(error: Hal0Error) -> None:
            if handle.life.facts.fault is None:
                self.wrong.append(error.message)
            ended.set()

        admitted.serving.on_abort(aborted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(takes_s):
                await ended.wait()
        self.answered += not ended.is_set()
        admitted.serving.end()

    async def verb(self, work: Awaitable[Job]) -> None:
        await (await work).wait()

    def step(self) -> None:
        dice, supervisor, name = self.dice, self.hal0.supervisor, self.dice.choice(SLOTS)
        what = dice.choice(("request",) * 8 + ("crash", "unload", "load"))
        if what == "request":
            self.start(self.request(name, dice.choice(HOLD_S), dice.choice((0.01, 1.0, 10.0))))
        elif what == "unload":
            self.start(self.verb(supervisor.unload(name)))
        elif what == "load":
            self.start(self.verb(supervisor.load(name)))
        elif self.hal0.world.engine.running:
            dice.choice(self.hal0.world.engine.running).end(137)

    def start(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def run(self) -> None:
        for _ in range(self.dice.randint(5, 60)):
            await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.3, 3.0, 30.0)) * self.dice.random())
            self.step()
            assert len(self.hal0.world.engine.running) <= 1
        await asyncio.gather(*self.tasks)
        await until(lambda: all(s.in_flight == self.gate.waiting(s.name) == 0 for s in self.slots), within_s=1.0)
        assert self.wrong == []
        await asyncio.sleep(200.0)  # who was sent away finds it loaded, or somebody else wished otherwise
        await self.gate.close()

    @property
    def slots(self) -> list[Slot]:
        return [self.hal0.supervisor.slot(name) for name in SLOTS]


def crowded(folder: Path, ports: range) -> World:
    engine = FakeEngine()
    engine.program = Program(memory_bytes=150 * 2**20)
    return World(folder, ports, engine, disk=Disk(), ram_bytes=ROOM_BYTES)


@virtual_time
async def test_a_load_that_found_no_room_gets_its_turn_when_somebody_asks_for_it(
    tmp_path: Path, port_block: range
) -> None:
    world = crowded(tmp_path, port_block)
    async with world.hal0(embed={"model": "two"}) as hal0:
        life = Life(hal0, 0)
        await hal0.load("embed")
        life.start(life.request(EMBED, 0.0, 10.0))
        await asyncio.sleep(1.0)
        job = await hal0.load("primary")
        assert job.error is not None
        assert job.error["code"] == "slot.memory_budget"
        life.start(life.request(PRIMARY, 60.0, 1.0))
        await asyncio.gather(*life.tasks)
        assert life.wrong == []
        assert (life.answered, hal0.phase("primary"), hal0.phase("embed")) == (2, Phase.READY, Phase.OFFLINE)
        await life.gate.close()


@virtual_time
async def test_a_slot_that_is_configured_no_more_leaves_under_traffic_and_whoever_waits_is_told(
    tmp_path: Path, port_block: range
) -> None:
    world = World(tmp_path, port_block, FakeEngine())
    async with world.hal0(spare={"model": "two", "max_inflight": 1, "drain_s": 20}) as hal0:
        life, told = Life(hal0, 0), list[str]()
        await hal0.load("spare")
        handle = hal0.supervisor.slot("spare")

        async def ask() -> None:
            trace = Trace("r", 0.0, 0.0, "POST", "/v1/completions")
            try:
                admitted = await life.gate.enter(handle, trace, hold_s=600.0, patience_s=None)
            except Hal0Error as error:
                told.append(error.code)
            else:
                await asyncio.sleep(3.0)
                admitted.serving.end()

        asking = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0.1)
        await hal0.supervisor.apply(world.config())
        for _ in range(100):
            if hal0.supervisor.get("spare") is None:
                break
            asking.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.5)
        assert hal0.supervisor.get("spare") is None
        assert world.engine.running == []
        await asyncio.wait_for(asyncio.gather(*asking), 1.0)
        assert set(told) == {"slot.offline"}
        await life.gate.close()


async def life(folder: Path, ports: range, seed: int) -> None:
    world = crowded(folder, ports)
    async with world.hal0(embed={"model": "two"}) as hal0:
        await hal0.tools.steward.look()
        await Life(hal0, seed).run()


def test_everyone_is_answered_in_time_and_nobody_is_cut(
    tmp_path: Path, port_block: range, soak_scale: Callable[[int, int], int]
) -> None:
    for seed in range(soak_scale(25, 2_500)):
        try:
            virtual(life(tmp_path / f"w{seed % 2}", port_block, seed))
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
