"""One random life of slots: operators, requests, faults and kills in any order, under the eyes of `Promises`."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hal0.engine.base import ContainerSpec
from hal0.errors import Hal0Error
from hal0.slots.jobs import Job
from hal0.slots.slot import Slot
from hal0.vocab import Phase
from tests.factories import container_spec
from tests.fakes.world import Running
from tests.unit.slots.chaos_engine import PROGRAMS, VERBS
from tests.unit.slots.promises import SLOTS, Promises
from tests.vloop import until

EMBED: Final = {"model": "two", "fallbacks": [{"context_size": 2048}, {"device": "cpu"}]}
MODELS: Final = (None, "one", "two", "bad")
MACHINES: Final = (64 * 2**30, 270 * 2**20)  # room for all, and for one slot at a time
GPUS: Final = 0.2  # the share of lives with a GPU
LARGE, GTT = 60 * 2**20, 300 * 2**20  # a model needs 134 MiB of a GPU
# What a verb may be told; anything else is a mistake.
REFUSALS: Final = {
    "slot.not_found",
    "slot.illegal_transition",
    "slot.no_model",
    "slot.memory_budget",  # what serves is not given up for a model that cannot fit beside a pinned one
    "engine.unreachable",
    "server.stopping",
}
ANSWER_S: Final = 20.0  # an actor does no slow work in a turn: even with a slow disk an answer comes soon
# What happens next, and how often.
STEPS, WEIGHTS = zip(
    ("load", 6),
    ("unload", 4),
    ("swap", 5),
    ("restart", 3),
    ("reset", 2),
    ("request", 8),
    ("cancel", 3),
    ("crash", 5),
    ("forget", 2),
    ("deaf", 1),
    ("stall", 1),
    ("release", 2),
    ("flake", 4),
    ("full", 2),
    ("slow", 1),
    ("program", 3),
    ("port", 1),
    ("stray", 1),
    ("config", 1),
    ("tick", 40),
    strict=True,
)

FAULTS: Final = ("crash", "forget", "deaf", "stall", "release", "flake", "full", "slow", "program", "port", "stray")


class Chaos(Promises):
    """The same seed is the same life; `trace` tells it."""

    def __init__(self, folder: Path, ports: range, seed: int) -> None:
        super().__init__(folder, ports)
        self.dice = random.Random(seed)
        self.world.ram_bytes = self.dice.choice(MACHINES)
        self.names = ["primary", "embed"]
        self.on: dict[str, Any] = {}
        self.fallbacks = EMBED["fallbacks"]
        self.trace: list[str] = []
        self.configuring = asyncio.Lock()
        self.swaps = {slot: {"swap": self.dice.choice(("replace", "overlap"))} for slot in SLOTS}
        if self.dice.random() < GPUS:
            self.share_gpu()
        self.world.slots = {**self.world.slots, "primary": {"model": "one", **self.swaps["primary"], **self.on}}
        self.kept: dict[str, str] = {}  # slot -> the container that served when the process before was killed

    def share_gpu(self) -> None:
        """All slots on a GPU that holds two of three: images take it from the others, and give it back."""
        self.names.append("img")
        self.on = {"device": "vulkan"}
        self.fallbacks = EMBED["fallbacks"][:1]  # not away from the GPU
        self.world.ram_bytes, self.world.gtt_bytes, self.world.idle_restore_min = MACHINES[0], GTT, 1
        self.world.models.known |= {n: replace(m, size_bytes=LARGE) for n, m in self.world.models.known.items()}
        self.world.slots = {"img": {"model": "two", "provider": "comfyui", **self.on}}

    def note(self, text: str) -> None:
        self.trace.append(f"{asyncio.get_running_loop().time():9.3f} {text}")

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)

        def ended(done: "asyncio.Task[None]") -> None:
            self.tasks.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                self.wrong.append(repr(error))

        task.add_done_callback(ended)

    async def ask(self, verb: Awaitable[Any]) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await verb
        except Hal0Error as err:
            if err.code not in REFUSALS:
                self.wrong.append(f"refused with {err.code}: {err.message}")
        except TimeoutError:
            self.wrong.append(f"no answer within {ANSWER_S} s")
        else:
            if isinstance(answer, Job):
                self.jobs.append(answer)

    async def request(self, slot: Slot, hold_s: float) -> None:
        """What the gate does: ask for a load, wait, go in, stay a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while not (snapshot := slot.snapshot()).routable:
                    if snapshot.phase is Phase.OFFLINE:
                        slot.request_load()
                    if slot.snapshot() is snapshot:
                        await slot.changed()
        if not slot.snapshot().routable:
            return
        with slot.serving() as serving:
            current = slot.life.facts.current
            assert current is not None
            ended = asyncio.Event()

            def aborted(error: Hal0Error) -> None:
                if slot.life.facts.fault is None:
                    self.wrong.append(f"a request in {current.name} was ended by hal0: {error.message}")
                ended.set()

            serving.on_abort(aborted)
            self.held[current.name] += 1
            try:
                for _ in range(int(hold_s * 10)):
                    found = self.engine._find(current.name)
                    if ended.is_set() or found is None or not found.running:
                        return  # cut: by a fault
                    await asyncio.sleep(0.1)
            finally:
                self.held[current.name] -= 1

    async def step(self, hal0: Running) -> None:
        """The next thing that happens: a wish, a fault in the world, or time."""
        name = self.dice.choice([slot for slot in self.names if hal0.supervisor.get(slot)])
        what = self.dice.choices(STEPS, WEIGHTS)[0]
        if what == "tick":
            await self.tick()
        elif what in FAULTS:
            self.fault(what, name)
        else:
            self.wish(what, hal0, name)

    def wish(self, what: str, hal0: Running, name: str) -> None:
        dice, slot = self.dice, hal0.supervisor.slot(name)
        match what:
            case "load":
                model = dice.choice(MODELS)
                self.note(f"load {name} {model}")
                self.spawn(self.ask(hal0.supervisor.load(name, model)))
            case "swap":
                model = dice.choice(MODELS[1:])
                self.note(f"swap {name} {model}")
                self.spawn(self.ask(hal0.supervisor.swap(name, model or "one")))
            case "unload":
                self.note(f"unload {name}")
                self.spawn(self.ask(hal0.supervisor.unload(name)))
            case "restart":
                self.note(f"restart {name}")
                self.spawn(self.ask(hal0.supervisor.restart(name)))
            case "reset":
                self.note(f"reset {name}")
                self.spawn(self.ask(hal0.supervisor.reset(name)))
            case "request":
                hold_s = dice.uniform(0, 20)
                self.note(f"request {name} for {hold_s:.1f}")
                self.spawn(self.request(slot, hold_s))
            case "cancel":
                running = [job for job in self.jobs if not job.ended and job.on_cancel is not None]
                if running:
                    self.note("cancel")
                    hal0.tools.jobs.cancel(dice.choice(running).view.id)
            case "config":
                self.spawn(self.configure(hal0))
            case _:
                raise AssertionError(what)

    def fault(self, what: str, name: str) -> None:  # noqa: C901  one case per kind of fault
        dice, engine = self.dice, self.engine
        match what:
            case "crash":
                if engine.running:
                    victim = dice.choice(engine.running)
                    self.note(f"crash {victim.spec.name}")
                    victim.end(dice.choice((1, 137, 139)), oom=dice.random() < 0.2)
            case "forget":
                if engine.all:
                    victim = dice.choice(engine.all)
                    self.note(f"forget {victim.spec.name}")
                    engine.forget(victim)
            case "deaf":
                engine.deaf = not engine.deaf
                self.note(f"deaf {engine.deaf}")
            case "stall":
                verbs = dice.sample(VERBS, dice.randint(1, len(VERBS)))
                self.note(f"stall {verbs}")
                engine.stall(*verbs)
            case "release":
                self.note("release")
                engine.release()
            case "flake":
                verb = dice.choice(VERBS)
                code = dice.choice(("engine.failed", "engine.unreachable", "engine.timeout"))
                after = dice.random() < 0.4
                count = dice.randint(1, 3)
                self.note(f"flake {verb} {code} x{count} {after=}")
                engine.fail(verb, *(Hal0Error(code, "cannot: chaos") for _ in range(count)), after=after)
            case "full":
                self.disk.full = dice.random() < 0.5
                self.note(f"disk full {self.disk.full}")
            case "slow":
                self.disk.slow_s = dice.choice((0.0, 0.002, 0.05, 0.5))
                self.note(f"disk slow {self.disk.slow_s}")
            case "program":
                program = dice.choice(PROGRAMS)
                self.note(f"next program {program}")
                engine.plan(program)
            case "port":
                engine.busy_ports = set(dice.sample(self.world.ports, dice.randint(0, 3)))
                self.note(f"busy ports {engine.busy_ports}")
            case "stray":
                spec = self.stray(name)
                self.note(f"stray {spec.name}")
                engine.place(spec, running=False)
            case _:
                raise AssertionError(what)

    async def configure(self, hal0: Running) -> None:
        """A slot comes, goes, or changes; one configuration at a time, as the daemon applies them."""
        primary = {"model": "one", "unload_after_s": self.dice.choice((0, 0, 30)), **self.swaps["primary"], **self.on}
        tables: dict[str, Any] = {"primary": primary}
        tables |= {"embed": self.embed()} if self.on or self.dice.random() < 0.6 else {}
        async with self.configuring:
            self.note(f"configure {tables}")
            await hal0.supervisor.apply(hal0.world.config(**tables))

    def plain_embed(self) -> dict[str, Any]:
        return {**EMBED, "fallbacks": self.fallbacks, **self.swaps["embed"], **self.on}

    def embed(self) -> dict[str, Any]:
        own = {"drain_s": self.dice.choice((60, 120)), "pinned": self.dice.random() < 0.2}
        return {**self.plain_embed(), **own}

    def stray(self, slot: str) -> ContainerSpec:
        """A create that landed after everybody had forgotten it."""
        generation = max((c.spec.name.rpartition("-")[2] for c in self.engine.of_slot(slot)), default="1", key=int)
        record = self.record(slot)
        number = max(int(generation), record.generation if record else 0) + 1
        return container_spec(slot, generation=number, port=None)

    async def tick(self) -> None:
        await asyncio.sleep(self.dice.choice((0.0, 0.001, 0.01, 0.1, 0.5, 2.0, 5.0, 40.0)) * self.dice.random())

    # -- lives --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        for _ in range(self.dice.randint(0, 3)):
            await self.killed_life()
        await self.last_life()

    async def killed_life(self) -> None:
        """Steps until SIGKILL, at any await: during the boot as well."""
        life = asyncio.create_task(self.live(self.dice.randint(1, 40)))
        await asyncio.wait([life], timeout=self.dice.choice((0.0, 0.01, 0.2, 2.0, 30.0)) * self.dice.random())
        self.note("kill")
        running = self.hal0
        steady = self.steady(running) if running is not None else {}
        await self.end_tasks()
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await life
        self.hal0, self.phases = None, {}
        self.jobs.clear()
        self.kept = steady

    def steady(self, hal0: Running) -> dict[str, str]:
        """Slots that serve, and on which nobody wants anything else: the next process must leave them alone."""
        steady = {}
        for slot in hal0.supervisor.all():
            life, record = slot.life, self.record(slot.name)
            current = life.facts.current
            if life.facts.swap is not None or (record is not None and record.swap is not None):
                continue  # the next process may finish it
            if life.phase is Phase.READY and current and record and record.phase is Phase.READY:
                found = self.engine._find(current.name)
                if found and found.running and record.desired == life.desired:
                    steady[str(slot.name)] = current.name
        return steady

    async def live(self, steps: int) -> None:
        async with self.world.hal0(embed=self.plain_embed()) as self.hal0:
            await self.check_kept(self.hal0)
            for _ in range(steps):
                await self.step(self.hal0)
            await asyncio.Event().wait()  # it ends by the kill alone

    async def check_kept(self, hal0: Running) -> None:
        """What served when the process before was killed serves now, in the same container."""
        for name, container in self.kept.items():
            found = self.engine._find(container)
            facts = hal0.supervisor.slot(name).life.facts
            if found and found.running and (facts.current is None or facts.current.name != container):
                self.wrong.append(f"{container} served, and was not adopted: {hal0.supervisor.slot(name).life}")
        self.kept = {}

    async def end_tasks(self) -> None:
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)

    async def come_to_rest(self) -> None:
        """And stay so for the second in which what was just decided comes on disk: an engine may die in it."""
        while True:
            await until(self.at_rest, within_s=1500, every_s=0.5)
            await asyncio.sleep(1)
            if self.at_rest():
                return

    async def last_life(self) -> None:
        """Steps, then peace: everything must come to rest where it is wanted."""
        async with self.world.hal0(embed=self.plain_embed()) as self.hal0:
            await self.check_kept(self.hal0)
            for _ in range(self.dice.randint(5, 60)):
                await self.step(self.hal0)
            self.note("peace")
            self.engine.calm()
            async with self.configuring:
                pass  # whatever was being applied is
            self.disk.full, self.disk.slow_s = False, 0.002
            try:
                await asyncio.sleep(4)  # a look at everything is due within the tick, whatever was not told
                await self.come_to_rest()
            except AssertionError:
                self.wrong.append(
                    f"no rest: {[(s.name, s.life) for s in self.hal0.supervisor.all()]} jobs "
                    f"{[j.view for j in self.jobs if not j.ended]} held {self.held} tasks {self.tasks}"
                )
                await self.end_tasks()
            self.check_rest(self.hal0)
