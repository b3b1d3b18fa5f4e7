"""The boot table: from what the disk remembers and what podman runs, where a slot stands now. Pure.

Adoption is not a transition: the actor is constructed in the phase that comes out of here. A container that runs is
never stopped because hal0 was away; only what nobody wants any more is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hal0.engine.base import LABEL_PREFIX, ContainerInfo, ContainerStatus
from hal0.slots.failure import waits_for_engine
from hal0.slots.happenings import Life
from hal0.slots.record import Container, Desired, Failure, SlotRecord, Swap, SwapStep
from hal0.slots.state import NEVER, NO_ATTEMPTS, RETRY_CAP_S, Facts
from hal0.vocab import By, FailureClass, Phase, Role, Want

LABEL_SLOT: Final = f"{LABEL_PREFIX}slot"
LABEL_INSTANCE: Final = f"{LABEL_PREFIX}instance"
LABEL_GENERATION: Final = f"{LABEL_PREFIX}generation"
LABEL_SPEC: Final = f"{LABEL_PREFIX}spec"
LABEL_MODEL: Final = f"{LABEL_PREFIX}model"
LABEL_ROLE: Final = f"{LABEL_PREFIX}role"


@dataclass(frozen=True, slots=True)
class Found:
    """A container of this slot that podman has. `answers`: its engine was asked just now and lists its model.

    `began`: when its process did, as the engine says. `lost`: podman believes that it runs, and its process is gone;
    its monitor died as well.
    """

    info: ContainerInfo
    answers: bool
    began: int | None = None
    lost: bool = False

    @property
    def generation(self) -> int:
        text = self.info.labels.get(LABEL_GENERATION, "")
        return int(text) if text.isdigit() else 0

    @property
    def model(self) -> str:
        return self.info.labels.get(LABEL_MODEL, "")

    @property
    def runs(self) -> bool:
        return self.info.status in (ContainerStatus.RUNNING, ContainerStatus.STOPPING) and not self.lost

    @property
    def ended(self) -> bool:
        return self.info.status is ContainerStatus.EXITED or self.lost

    def container(self, role: Role, known: Mapping[str, Container]) -> Container:
        """In the slot's words; what only the record knew (the leased port) is kept. What does not run has no port."""
        info, old = self.info, known.get(self.info.name)
        port = info.host_port if info.host_port is not None else (old.port if old else None)
        return Container(
            role=role,
            name=info.name,
            generation=self.generation,
            model=self.model,
            id=info.id,
            port=port if self.runs else None,
            image_id=info.image_id or (old.image_id if old else None),
            spec_hash=info.labels.get(LABEL_SPEC),
            pid=info.pid or None,
            pid_start=self.began,
        )


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration says where the record is silent; `verify`: a load has to prove itself before it serves."""

    autoload: bool
    seed_model: str | None
    verify: bool = False


def adopt(record: SlotRecord | None, found: Sequence[Found], configured: Configured, now: float) -> Life:
    """Place a slot at boot. `record` is None when there is none or it was damaged. Deadlines are the caller's.

    Nothing is removed here: what never ran, and what nobody needs any more, is `leaving`, and goes while slots serve.
    """
    known = {c.name: c for c in record.containers} if record else {}
    if record is not None and configured.verify:  # an answer is not enough for what was killed before it had proved it
        unproved = _unproved(record)
        found = [replace(f, answers=f.answers and f.info.name not in unproved) for f in found]
    running = sorted((f for f in found if f.runs), key=lambda f: f.generation)
    ended = sorted((f for f in found if f.ended), key=lambda f: f.generation)
    never_ran = [f for f in found if not f.runs and not f.ended]

    desired = _desired(record, running, configured, now)
    swap = record.swap if record else None
    if record is not None and swap is not None and swap.overlaps:
        if (life := _side_by_side(record, swap, desired, found, now)) is not None:
            return life
        swap = replace(swap, step=SwapStep.FORWARD) if swap.step is not SwapStep.UNDOING else None
    if swap is not None:
        # Continued once (a failure rolls it back), and a rollback goes on as a rollback.
        desired = replace(desired, model=swap.to_model if swap.step is SwapStep.FORWARD else swap.from_model)
    keep = _keep(record, running, swap)
    dead = ended[-1] if keep is None and ended and _is_a_loss(record) else None
    body = keep or dead
    facts = Facts(
        generation=max([record.generation if record else 0, *(f.generation for f in found)]),
        current=body.container(Role.CURRENT, known) if body else None,
        leaving=tuple(f.container(Role.LEAVING, known) for f in (*running, *ended, *never_ran) if f is not body),
        swap=swap,
        fetched=keep is not None,
        launched=keep is not None,
        attempts=record.attempts if record else NO_ATTEMPTS,
        fallback=record.fallback if record else None,
        deadline=NEVER,
    )
    return _place(record, desired, facts, keep, now)


def _side_by_side(record: SlotRecord, swap: Swap, desired: Desired, found: Sequence[Found], now: float) -> Life | None:
    """An overlap goes on where it stood: the old container answers, and the new one does not yet. None: not so."""
    known, roles = {c.name: c for c in record.containers}, {c.name: c.role for c in record.containers}
    old = next((f for f in found if roles.get(f.info.name) is Role.CURRENT and f.runs and f.answers), None)
    new = next((f for f in found if roles.get(f.info.name) is Role.NEXT), None)
    if old is None or (new is not None and new.answers):
        return None
    runs = new is not None and new.runs and swap.step is not SwapStep.UNDOING
    ended = new is not None and new.ended
    body = new if runs or ended else None
    step = SwapStep.WARMING if runs else SwapStep.UNDOING if ended else SwapStep.PULLING
    undone = swap.step is SwapStep.UNDOING and not ended
    facts = Facts(
        generation=max([record.generation, *(f.generation for f in found)]),
        current=old.container(Role.CURRENT, known),
        next=body.container(Role.NEXT, known) if body else None,
        next_launched=runs,
        next_fault=_away(now) if ended else None,
        leaving=tuple(f.container(Role.LEAVING, known) for f in found if f not in (old, body)),
        swap=None if undone else replace(swap, step=step),
        fallback=record.fallback,
        fetched=runs,
        launched=True,
        ready=True,
        attempts=record.attempts,
        deadline=NEVER,
    )
    model = swap.from_model if ended or undone else swap.to_model
    return Life(desired=replace(desired, model=model), phase=Phase.READY, facts=facts)


def _unproved(record: SlotRecord) -> frozenset[str]:
    """Containers that have never been ready."""
    warms = record.phase in (Phase.STARTING, Phase.WARMING)
    return frozenset(c.name for c in record.containers if c.role is Role.NEXT or (c.role is Role.CURRENT and warms))


def _away(now: float) -> Failure:
    """Provisional: the burial reads why."""
    return Failure(FailureClass.TRANSIENT, "slot.exited", "it ended while hal0 was away", now, settled=False)


def _is_a_loss(record: SlotRecord | None) -> bool:
    """Nobody asked for the end of the container that is found dead; while unloading, hal0 had."""
    return record is None or record.phase is not Phase.UNLOADING


def _place(record: SlotRecord | None, desired: Desired, facts: Facts, keep: Found | None, now: float) -> Life:
    wanted = desired.want is Want.LOADED and desired.model is not None
    if keep is not None:
        return _beside(keep, desired, facts, wanted=wanted)
    if facts.current is not None:
        return Life(desired=desired, phase=Phase.ERROR, facts=replace(facts, fault=_away(now)))
    if wanted and record is not None and record.phase is Phase.ERROR and record.swap is None:
        return _resting(record, desired, facts, now)
    return Life(desired=desired, phase=Phase.OFFLINE, facts=facts)


def _beside(keep: Found, desired: Desired, facts: Facts, *, wanted: bool) -> Life:
    """A container runs. One that no longer answers because its stop had begun is not waited for."""
    ending = keep.info.status is ContainerStatus.STOPPING and not keep.answers
    if not wanted or ending or keep.model != desired.model:
        return Life(desired=desired, phase=Phase.UNLOADING, facts=facts)
    if not keep.answers:
        return Life(desired=desired, phase=Phase.WARMING, facts=facts)
    return Life(desired=desired, phase=Phase.READY, facts=replace(facts, ready=True, swap=None))


def _resting(record: SlotRecord, desired: Desired, facts: Facts, now: float) -> Life:
    """It was in error. What failed on the engine alone is tried at once: the engine has just answered."""
    failure, next_at = record.failure, record.attempts.next_at
    if failure is None or waits_for_engine(failure):
        return Life(desired=desired, phase=Phase.OFFLINE, facts=facts)
    if next_at is not None:  # the clock may have been set back since: never further away than the curve goes
        next_at = min(next_at, now + RETRY_CAP_S)
    retry_at = NEVER if failure.failure_class is FailureClass.PERMANENT else next_at or 0.0
    # What the burial had not read yet is gone with the container.
    failure = replace(failure, settled=True)
    attempts = replace(record.attempts, next_at=next_at)
    facts = replace(facts, fault=failure, failure=failure, attempts=attempts, retry_at=retry_at)
    return Life(desired=desired, phase=Phase.ERROR, facts=facts)


def _desired(record: SlotRecord | None, running: Sequence[Found], configured: Configured, now: float) -> Desired:
    if record is not None:
        wish = record.desired
        if wish.model is None or (wish.want is Want.UNLOADED and not record.load_history):
            wish = replace(wish, model=configured.seed_model or wish.model)  # until the first load the seed decides
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
