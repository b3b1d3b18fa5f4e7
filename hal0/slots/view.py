"""A slot on the wire: its view, and why it failed, from the same value as everything else that is told of it. Pure."""

from hal0.slots.failure import signal_words
from hal0.slots.fallback import words
from hal0.slots.record import Container, Failure, Load
from hal0.slots.routing import most_of, serves
from hal0.slots.shown import Shown
from hal0.slots.state import NEVER
from hal0.slots.telling import message, notes
from hal0.slots.warmup import expected_s
from hal0.vocab import BUILTIN_SLOTS, Phase
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
