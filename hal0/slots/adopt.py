"""The boot table: from what the disk remembers and what podman runs, where a slot stands now. Pure.

Adoption is not a transition: the actor is constructed in the phase that comes out of here. A container that runs is
never stopped because hal0 was away; only what nobody wants any more is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hal0.engine.base import LABEL_PREFIX, ContainerInfo, ContainerStatus
from hal0.slots.happenings import Life
from hal0.slots.record import Attempts, Container, Desired, Failure, SlotRecord, Swap
from hal0.slots.state import NEVER, Facts
from hal0.vocab import By, FailureClass, Phase, Role, Want

LABEL_SLOT: Final = f"{LABEL_PREFIX}slot"
LABEL_INSTANCE: Final = f"{LABEL_PREFIX}instance"
LABEL_GENERATION: Final = f"{LABEL_PREFIX}generation"
LABEL_SPEC: Final = f"{LABEL_PREFIX}spec"
LABEL_MODEL: Final = f"{LABEL_PREFIX}model"
LABEL_ROLE: Final = f"{LABEL_PREFIX}role"


@dataclass(frozen=True, slots=True)
class Found:
    """A container of this slot that podman has. `answers`: its engine was asked just now and lists its model."""

    info: ContainerInfo
    answers: bool

    @property
    def generation(self) -> int:
        text = self.info.labels.get(LABEL_GENERATION, "")
        return int(text) if text.isdigit() else 0

    @property
    def model(self) -> str:
        return self.info.labels.get(LABEL_MODEL, "")

    @property
    def runs(self) -> bool:
        return self.info.status in (ContainerStatus.RUNNING, ContainerStatus.STOPPING)

    def container(self, role: Role, known: Mapping[str, Container]) -> Container:
        """In the slot's words; what only the record knew (the leased port) is kept."""
        info, old = self.info, known.get(self.info.name)
        return Container(
            role=role,
            name=info.name,
            generation=self.generation,
            model=self.model,
            id=info.id,
            port=info.host_port if info.host_port is not None else (old.port if old else None),
            image_id=info.image_id or (old.image_id if old else None),
            spec_hash=info.labels.get(LABEL_SPEC),
            pid=info.pid or None,
            pid_start=old.pid_start if old and old.pid == info.pid else None,
        )


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration says where the record is silent."""

    autoload: bool
    seed_model: str | None


@dataclass(frozen=True, slots=True)
class Adoption:
    """Where the slot stands, and the containers to remove because they never ran."""

    life: Life
    remove: tuple[str, ...]


def adopt(record: SlotRecord | None, found: Sequence[Found], configured: Configured, now: float) -> Adoption:
    """Place a slot at boot. `record` is None when there is none or it was damaged."""
    known = {c.name: c for c in record.containers} if record else {}
    running = sorted((f for f in found if f.runs), key=lambda f: f.generation)
    ended = sorted((f for f in found if f.info.status is ContainerStatus.EXITED), key=lambda f: f.generation)
    never_ran = tuple(f.info.name for f in found if not f.runs and f.info.status is not ContainerStatus.EXITED)
    generation = max([record.generation if record else 0, *(f.generation for f in found)])

    desired = _desired(record, running, configured, now)
    swap = record.swap if record else None
    keep = _keep(record, running, swap)
    if swap is not None:
        # Continued once (a failure rolls it back), and a rollback goes on as a rollback.
        desired = replace(desired, model=swap.to_model if swap.step == "forward" else swap.from_model)
    leaving = [f.container(Role.LEAVING, known) for f in running if f is not keep]
    body = keep
    if body is None and ended:
        body, older = ended[-1], ended[:-1]
    else:
        older = ended
    leaving += [f.container(Role.LEAVING, known) for f in older]
    facts = Facts(
        generation=generation,
        current=body.container(Role.CURRENT, known) if body else None,
        leaving=tuple(leaving),
        swap=swap,
        fetched=keep is not None,
        launched=keep is not None,
        attempts=record.attempts if record else Attempts(),
        deadline=NEVER,
    )
    return Adoption(_place(record, desired, facts, keep, now), never_ran)


def _place(record: SlotRecord | None, desired: Desired, facts: Facts, keep: Found | None, now: float) -> Life:
    wanted = desired.want is Want.LOADED and desired.model is not None
    if keep is not None:
        if not wanted:
            return Life(desired=desired, phase=Phase.UNLOADING, facts=facts)
        if keep.answers:
            return Life(desired=desired, phase=Phase.READY, facts=replace(facts, ready=True))
        return Life(desired=desired, phase=Phase.WARMING, facts=facts)
    if facts.current is not None:
        # It ended while nobody looked: the burial reads why.
        fault = Failure(FailureClass.TRANSIENT, "slot.exited", "it ended while hal0 was away", now, settled=False)
        return Life(desired=desired, phase=Phase.ERROR, facts=replace(facts, fault=fault))
    if wanted and record is not None and record.phase is Phase.ERROR and record.failure is not None:
        next_at = record.attempts.next_at
        facts = replace(
            facts,
            fault=record.failure,
            failure=record.failure,
            retry_at=next_at if next_at is not None else NEVER,
        )
        return Life(desired=desired, phase=Phase.ERROR, facts=facts)
    return Life(desired=desired, phase=Phase.OFFLINE, facts=facts)


def _desired(record: SlotRecord | None, running: Sequence[Found], configured: Configured, now: float) -> Desired:
    if record is not None:
        wish = record.desired
        dozing = wish.want is Want.UNLOADED and wish.by in (By.IDLE, By.EVICTED)
        if dozing and configured.autoload:
            return Desired(Want.LOADED, wish.model, By.CONFIG, now)
        return wish
    if running:
        return Desired(Want.LOADED, running[-1].model or configured.seed_model, By.CONFIG, now)
    want = Want.LOADED if configured.autoload and configured.seed_model else Want.UNLOADED
    return Desired(want, configured.seed_model, By.CONFIG, now)


def _keep(record: SlotRecord | None, running: Sequence[Found], swap: Swap | None) -> Found | None:
    """Which of the running containers stays: in a swap one that answers; else the record's; else the newer."""
    if not running:
        return None
    answering = [f for f in running if f.answers]
    if swap is not None:
        return (answering or running)[-1]
    names = [c.name for c in record.containers if c.role is Role.CURRENT] if record else []
    of_record = [f for f in running if f.info.name in names]
    return (of_record or answering or running)[-1]
