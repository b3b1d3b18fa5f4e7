"""One slot as others see it: the snapshot for dispatch and the view for the wire, from the same facts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hal0.config.slots import SlotConfig
from hal0.lib.clock import iso
from hal0.providers.base import Endpoint, Provider
from hal0.slots.failure import signal_words
from hal0.slots.fallback import of_model, words
from hal0.slots.handle import Serves, SlotFailure, SlotSnapshot
from hal0.slots.happenings import Life
from hal0.slots.logbook import Logbook
from hal0.slots.need import NO_WEIGHTS, Weights
from hal0.slots.record import Container, Failure, Fallback, Load, SwapStep
from hal0.slots.state import NEVER, shown
from hal0.slots.warmup import expected_s
from hal0.vocab import BUILTIN_SLOTS, By, Capability, Device, Phase, SlotName, SlotState, Want
from hal0.wire.slots import (
    ContainerView,
    DesiredView,
    FailureView,
    FallbackView,
    LoadView,
    MemoryView,
    ProgressView,
    ServesView,
    SlotView,
    SwapView,
    TermView,
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the registry says about a slot's model right now; `missing` is a sentence when it is not here.

    `on_request`: then a request may have it fetched.
    """

    size_bytes: int = 0
    context_length: int | None = None
    demo: bool = False
    capabilities: frozenset[Capability] = frozenset()
    missing: str | None = None
    weights: Weights = NO_WEIGHTS
    riders: Mapping[Capability, str] = field(default_factory=dict)  # which models answer for a capability instead of it
    on_request: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everything a view rests on, at one moment."""

    name: SlotName
    config: SlotConfig
    provider: Provider
    device: Device
    life: Life
    book: Logbook
    endpoint: Endpoint | None
    in_flight: int
    queued: int
    model: ModelFacts
    context_size: int | None
    unsaved: bool
    now: float

    @property
    def state(self) -> SlotState:
        quiet_s = self.now - self.book.last_used if self.book.last_used is not None else 0.0
        idle_s = self.config.idle_timeout_s
        return shown(self.life.phase, in_flight=self.in_flight, quiet_s=quiet_s, idle_timeout_s=idle_s)

    @property
    def fallback(self) -> Fallback | None:
        """How its model is started instead of as configured."""
        return of_model(self.life.facts.fallback, self.live_model)

    @property
    def live_model(self) -> str | None:
        """The model that answers for it now; when none does, the one that will."""
        return model_of(self.life)


def model_of(life: Life) -> str | None:
    """The model that a request for the slot meets: while another one comes beside it, still the present one."""
    facts = life.facts
    if life.overlaps and facts.current is not None:
        return facts.current.model
    return life.desired.model


def address_of(container: Container, provider: Provider, secrets: Mapping[int, str]) -> Endpoint:
    """Where it answers; `secrets` by generation."""
    secret = secrets.get(container.generation, "")
    return Endpoint(container.host, container.port or provider.container_port, secret)


def endpoint_of(life: Life, provider: Provider, secrets: Mapping[int, str]) -> Endpoint | None:
    """Where a request may go now: ready, believed to be alive, wanted, and with the model that the slot stands for."""
    current = life.facts.current
    if life.phase is not Phase.READY or current is None or not life.facts.launched:
        return None
    if life.desired.want is Want.UNLOADED:  # from the wish on: nobody comes in between it and the drain
        return None
    return address_of(current, provider, secrets) if current.model == model_of(life) else None


def serves(it: Shown) -> tuple[Serves, ...]:
    """One entry per capability of its model that its provider can serve."""
    model = it.live_model
    if model is None:
        return ()
    able = it.model.capabilities & it.provider.capabilities
    return tuple(Serves(it.model.riders.get(capability, model), capability) for capability in sorted(able))


def most_of(it: Shown) -> int | None:
    """Requests at the same time: the operator's word, within what the engine can do at all."""
    limits = [limit for limit in (it.config.max_inflight, it.provider.at_once) if limit is not None]
    return min(limits, default=None)


def snapshot_of(it: Shown) -> SlotSnapshot:
    life, config = it.life, it.config
    fault = life.facts.fault if life.phase in (Phase.ERROR, Phase.UNLOADING) else None
    retry_at = life.facts.retry_at
    return SlotSnapshot(
        name=it.name,
        builtin=it.name in BUILTIN_SLOTS,
        provider=it.provider,
        provider_name=it.provider.name,
        phase=life.phase,
        want=life.desired.want,
        model=it.live_model,
        model_missing=None if it.model.on_request else it.model.missing,
        demo=it.model.demo,
        serves=serves(it),
        aliases=config.aliases,
        endpoint=it.endpoint,
        max_inflight=most_of(it),
        queue_limit=config.queue_limit,
        priority=config.priority,
        pinned=config.pinned,
        load_on_request=config.load_on_request,
        hold_s=config.hold_s,
        first_byte_timeout_s=config.first_byte_timeout_s or FIRST_BYTE_S,
        on_client_gone=config.on_client_gone,
        context_size=it.context_size,
        failure=_slot_failure(fault) if fault else None,
        next_attempt_at=retry_at if fault is not None and retry_at != NEVER else None,
        load_started_at=it.book.load_started,
        ready_at=it.book.ready_at,
        expected_load_s=expected_s(it.book.history, it.live_model),
        progress=life.facts.progress,
        request_defaults=config.request_defaults,
    )


# A long prompt on a slow machine: prefill alone may take minutes.
FIRST_BYTE_S = 600.0


def view_of(it: Shown) -> SlotView:
    life, config, facts = it.life, it.config, it.life.facts
    expected = expected_s(it.book.history, life.desired.model)
    elapsed = it.now - it.book.load_started if it.book.load_started is not None else None
    return SlotView(
        name=it.name,
        builtin=it.name in BUILTIN_SLOTS,
        state=it.state,
        since=it.book.since,
        message=message(it),
        desired=DesiredView(want=life.desired.want, model=life.desired.model, by=life.desired.by, at=life.desired.at),
        provider=it.provider.name,
        device=it.device,
        model=it.live_model,
        seed_model=config.model,
        demo=it.model.demo,
        serves=[ServesView(model=s.model, capability=s.capability) for s in serves(it)],
        aliases=list(config.aliases),
        capabilities=sorted(it.provider.capabilities),
        port=facts.current.port if facts.current else None,
        url=it.endpoint.base_url if it.endpoint else None,
        containers=[_container(c) for c in facts.containers],
        context_size=it.context_size,
        memory_bytes=facts.memory_bytes,
        memory=_memory(it),
        pinned=config.pinned,
        priority=config.priority,
        in_flight=it.in_flight,
        queued=it.queued,
        max_inflight=most_of(it),
        swap_mode=config.swap,
        swap=SwapView(from_model=facts.swap.from_model, to_model=facts.swap.to_model, step=facts.swap.step)
        if facts.swap
        else None,
        fallback=_fallback(it),
        progress=_progress(it),
        failure=failure_of(it),
        stale=facts.stale,
        unsaved=it.unsaved,
        ready_at=it.book.ready_at,
        last_used=it.book.last_used,
        idle_timeout_s=config.idle_timeout_s,
        expected_load_s=expected,
        remaining_s=max(expected - elapsed, 0.0) if expected is not None and elapsed is not None else None,
        last_load=_load(it.book.history[-1]) if it.book.history else None,
        notes=notes(it),
    )


def message(it: Shown) -> str:
    """One sentence: what the slot is doing, or why it is not."""
    life, facts = it.life, it.life.facts
    if life.phase is Phase.OFFLINE:
        if it.config.upstream is not None:
            return f"its requests go to upstream {it.config.upstream!r}"
        if it.live_model is None:
            return "pick a model"
        if life.desired.by is By.ARBITER:
            return "made way for images; comes back when they are done"
        return it.model.missing or "offline"
    if life.phase is Phase.ERROR and facts.fault is not None:
        if not facts.fault.settled or facts.retry_at == NEVER:
            return facts.fault.message
        return f"{facts.fault.message}; next attempt at {iso(facts.retry_at)}"
    if life.overlaps and facts.swap is not None:
        text = facts.progress.message if facts.progress else _BESIDE[facts.swap.step]
        return f"serving {it.live_model} while {facts.swap.to_model} comes: {text}"
    if facts.progress is not None:
        return facts.progress.message
    if life.phase is Phase.READY:
        return f"serving {it.live_model}"
    return {
        Phase.PULLING: "looking for image and model",
        Phase.STARTING: "starting the container",
        Phase.WARMING: "loading the model",
        Phase.UNLOADING: "unloading",
        Phase.ERROR: "removing the container that ended",
    }[life.phase]


_BESIDE: Final = {
    SwapStep.PULLING: "looking for image and model",
    SwapStep.WAITING: "waiting for room beside the present container",
    SwapStep.STARTING: "starting the container",
    SwapStep.WARMING: "loading the model",
    SwapStep.UNDOING: "it failed; removing its container",
}


def notes(it: Shown) -> list[str]:
    """What an operator should know and is no error."""
    found = []
    seed, live, fallback = it.config.model, it.live_model, it.fallback
    if seed is not None and live is not None and seed != live:
        found.append(f"the configuration's seed is {seed}, the live model is {live}: `hal0ctl slot swap` changes it")
    if fallback is not None and (told := words(it.config, fallback)) is not None:
        found.append(f"started by {told}: {fallback.why}; `hal0ctl slot restart {it.name}` tries its own configuration")
    if (failed := it.life.facts.next_fault) is not None:
        found.append(f"the last swap failed: {failed.message}")
    return found


def _fallback(it: Shown) -> FallbackView | None:
    active = it.fallback
    told = words(it.config, active)
    if active is None or told is None:
        return None
    return FallbackView(number=active.number, of=len(it.config.fallbacks), text=told, why=active.why, at=active.at)


def _memory(it: Shown) -> MemoryView | None:
    need = it.life.facts.admitted
    if need is None:
        return None
    taken = next((used for used in it.book.memory if used.at == it.book.ready_at), None)
    return MemoryView(
        need_bytes=need.total_bytes,
        pool=str(need.pool),
        terms=[TermView(name=term.name, bytes=term.bytes) for term in need.terms],
        predicted_bytes=need.predicted_bytes,
        actual_bytes=taken.actual_bytes if taken else None,
        places=[TermView(name=place.name, bytes=place.bytes) for place in taken.places] if taken else [],
    )


def _load(load: Load) -> LoadView:
    create_s, load_s = load.create_s, load.load_s
    return LoadView(
        model=load.model,
        at=load.at,
        create_s=create_s,
        start_s=None if create_s is None else load.start_s - create_s,
        load_s=load_s,
        ready_s=None if load_s is None else load.warm_s - load_s,
        total_s=load.total_s,
    )


def _progress(it: Shown) -> ProgressView | None:
    facts = it.life.facts
    if facts.progress is not None:
        return ProgressView(
            phase=facts.progress.phase,
            fraction=facts.progress.fraction,
            message=facts.progress.message,
            source=facts.progress.source,
        )
    return None


def failure_of(it: Shown) -> FailureView | None:
    """Why the attempt under way or the one before it failed; None when all is well."""
    facts = it.life.facts
    failure = facts.fault or facts.failure
    if failure is None:
        return None
    resting = it.life.phase is Phase.ERROR and facts.retry_at != NEVER
    return failure_view(failure, facts.attempts.count, facts.retry_at if resting else None)


def failure_view(failure: Failure, attempt: int, next_attempt_at: float | None) -> FailureView:
    return FailureView(
        failure_class=failure.failure_class,
        code=failure.code,
        message=failure.message,
        exit_code=failure.exit_code,
        signal=failure.signal,
        signal_words=signal_words(failure.exit_code),
        oom=failure.oom,
        evidence=failure.evidence,
        model=failure.model,
        spec_hash=failure.spec_hash,
        line=failure.line,
        log_tail=list(failure.log_tail),
        at=failure.at,
        attempt=attempt,
        next_attempt_at=next_attempt_at,
    )


def _slot_failure(fault: Failure) -> SlotFailure:
    return SlotFailure(fault.failure_class, fault.code, fault.message, fault.at, fault.settled)


def _container(container: Container) -> ContainerView:
    return ContainerView(
        role=container.role,
        name=container.name,
        id=container.id,
        generation=container.generation,
        port=container.port,
        pid=container.pid,
        image_id=container.image_id,
        spec_hash=container.spec_hash,
        model=container.model,
    )
