"""What must hold for slots whatever happens: at every write, every verb, every start, and when peace has come."""

import asyncio
import functools
from collections import Counter
from pathlib import Path
from typing import Any, Final

from hal0.engine.base import ContainerSpec
from hal0.slots.arbiter import Mode
from hal0.slots.jobs import Job
from hal0.slots.record import SlotRecord
from hal0.slots.record import load as parse
from hal0.slots.state import TRANSITIONS
from hal0.vocab import FailureClass, Phase, Role, Want
from tests.fakes.world import Disk, Running, World
from tests.unit.slots.chaos_engine import TAKING, ChaosEngine

load = functools.lru_cache(64)(parse)  # a record is looked at several times
SLOTS: Final = ("primary", "embed", "img")


class Promises:
    """A world under watch; `wrong` collects what was broken."""

    def __init__(self, folder: Path, ports: range) -> None:
        self.engine = ChaosEngine()
        self.disk = Disk(seen=self._written)
        self.world = World(folder, ports, self.engine, disk=self.disk)
        self.hal0: Running | None = None
        self.wrong: list[str] = []
        self.jobs: list[Job] = []
        self.tasks: set[asyncio.Task[None]] = set()  # operators and requests that still wait for something
        self.held: Counter[str] = Counter()  # container name -> requests in it
        self.phases: dict[str, Phase] = {}  # last written by this process
        self.engine.witness = self._asked
        self.engine.starting = self._starting
        self.engine.program = TAKING

    def record(self, slot: str) -> SlotRecord | None:
        data = self.disk.files.get(self.world.folder / "slots" / slot / "state.json")
        return load(data) if data else None

    def _written(self, path: Path, data: bytes) -> None:
        if path.name != "state.json":
            return
        record = load(data)
        before = self.phases.get(record.name)
        reachable = {record.phase, *TRANSITIONS[before]} if before else set(Phase)
        # A phase whose own writing failed is missing on disk: one step may be skipped then.
        steps = reachable | {later for phase in reachable for later in TRANSITIONS[phase]}
        if record.phase not in (steps if self.disk.full else reachable | self._skipped(before)):
            self.wrong.append(f"{record.name}: {before} -> {record.phase} on disk")
        self.phases[record.name] = record.phase

    def _skipped(self, before: Phase | None) -> set[Phase]:
        """A start that got no port never reaches the disk as `starting`; it is an error next."""
        return {Phase.ERROR} if before else set()

    def _asked(self, verb: str, target: str) -> None:
        if verb == "create":
            slot = next(s for s in SLOTS if f"-{s}-" in target)
            record = self.record(slot)
            if record is None or target not in [c.name for c in record.containers]:
                self.wrong.append(f"{target} is created and no record names it")
        if verb in ("stop", "remove"):
            found = self.engine._find(target)
            if found is not None and found.running and self.held[found.spec.name]:
                self.wrong.append(f"{verb} of {found.spec.name} under {self.held[found.spec.name]} requests")

    def _starting(self, spec: ContainerSpec) -> None:
        slot = next(s for s in SLOTS if f"-{s}-" in spec.name)
        record = self.record(slot)
        known = record.containers if record else ()
        expected = [c.name for c in known if c.role is Role.LEAVING]
        if self.hal0 and (mine := self.hal0.supervisor.get(slot)) is not None:
            expected += [c.name for c in mine.life.facts.leaving]
        if spec.name in expected:
            return  # asked for by a process that was killed then; it goes again before another one comes
        if spec.name in [c.name for c in known if c.role is Role.NEXT]:  # a swap by overlap
            expected += [c.name for c in known if c.role is Role.CURRENT]
        others = [c for c in self.engine.of_slot(slot) if c.running and c.spec.name not in expected]
        if others:
            self.wrong.append(f"{spec.name} starts beside {[c.spec.name for c in others]}")
        taken = sum(c.program.memory_bytes for c in self.engine.running) + self.engine.program.memory_bytes
        if taken > self.world.ram_bytes:
            beside = [c.spec.name for c in self.engine.running]
            self.wrong.append(f"{spec.name} starts beside {beside}: {taken} of {self.world.ram_bytes} bytes are taken")
        if self.world.gtt_bytes and taken > self.world.gtt_bytes:  # then all slots are on the GPU
            self.wrong.append(f"{spec.name} starts: {taken} of {self.world.gtt_bytes} bytes of the GPU are taken")

    def at_rest(self) -> bool:
        assert self.hal0 is not None
        slots = [slot.life for slot in self.hal0.supervisor.all() if slot.name in SLOTS]
        if self.tasks or not all(job.ended for job in self.jobs):
            return False
        return (
            all(life.facts.busy is None and not life.facts.leaving and is_where_it_should_be(life) for life in slots)
            and all(life.facts.next is None and life.facts.swap is None for life in slots)
            and not any(slot.shown().unsaved for slot in self.hal0.supervisor.all())
            and all(gpu.mode == Mode.LLM for gpu in self.hal0.supervisor.gpus())
        )

    def check_rest(self, hal0: Running) -> None:
        for name in SLOTS:
            slot = hal0.supervisor.get(name)
            if slot is None:
                if left := self.engine.of_slot(name):
                    self.wrong.append(f"{name} is configured no more, and podman has {left}")
                continue
            life, record = slot.life, self.record(name)
            facts = life.facts
            there = [c.spec.name for c in self.engine.of_slot(name)]
            if there != ([facts.current.name] if facts.current else []):
                self.wrong.append(f"{name}: podman has {there}, memory has {facts.current}")
            if record is None:
                self.wrong.append(f"{name}: no record")
                continue
            pairs = [
                (record.desired, life.desired),
                (record.phase, life.phase),
                (record.containers, facts.containers),
                (record.generation, facts.generation),
                (record.swap, facts.swap),
                (record.attempts, facts.attempts),
                (record.fallback, facts.fallback),
                (record.failure, facts.fault or facts.failure),
            ]
            self.wrong += [f"{name}: disk has {disk}, memory {memory}" for disk, memory in pairs if disk != memory]
            if slot.in_flight:
                self.wrong.append(f"{name}: {slot.in_flight} requests for ever")
        ports = sorted(hal0.tools.ports.holders())
        used = sorted(c.host_port for c in self.engine.all if c.host_port is not None)
        if ports != used or len(set(used)) != len(used):
            self.wrong.append(f"ports leased {ports}, used {used}")


def is_where_it_should_be(life: Any) -> bool:
    if life.desired.want is Want.UNLOADED:
        return life.phase is Phase.OFFLINE
    if life.phase is Phase.ERROR:
        return life.facts.fault is not None and life.facts.fault.failure_class is FailureClass.PERMANENT
    return life.phase is Phase.READY and life.facts.current.model == life.desired.model
