"""What a slot needs of memory and what it holds, from what is known of it at one moment. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias, assert_never

from hal0.config.slots import SlotConfig
from hal0.hardware.pools import RAM, PoolKey, PoolKind, places, pool_for
from hal0.hardware.snapshot import Machine
from hal0.slots.happenings import Life
from hal0.slots.ledger import Holding, Standing
from hal0.slots.need import Need, Term, Used, estimate, within
from hal0.slots.plan import context_of
from hal0.slots.shown import ModelFacts, Shown
from hal0.slots.state import Effect, wanted
from hal0.slots.warmup import STOP_S, UNLOADING_GRACE_S, expected_s
from hal0.vocab import By, Phase, Want

FactsOf: TypeAlias = Callable[[str], ModelFacts]
Amounts: TypeAlias = Mapping[PoolKey, int]


def need_of(it: Shown, model: str, facts: ModelFacts, machine: Machine, config: SlotConfig | None = None) -> Need:
    """What `model` would take in this slot, as it is configured now, or as `config` says instead."""
    config = config or it.config_for(model, facts)
    need = estimate(
        facts.weights,
        pool=pool_for(it.device, config.gpu_index, machine),
        context=context_of(config, facts.context_length),
        extra_args=config.extra_args,
        spec=_spec(it, model, config),
        history=it.book.memory,
    )
    return need if config.memory_limit is None else within(need, config.memory_limit)


def used_of(it: Shown, facts: ModelFacts, machine: Machine) -> Used | None:
    """What the load that is ready has taken, beside what was predicted; None where it cannot be told.

    The weights of a GPU are in no container's figures: its processes tell them. Of a file that was in memory before,
    the kernel charges nothing to the container: it counts whole all the same.
    """
    current, ready_at, taken = it.life.facts.current, it.book.ready_at, it.life.facts.memory_bytes
    if it.life.phase is not Phase.READY or current is None or ready_at is None or taken is None:
        return None
    need = need_of(it, current.model, facts, machine)
    used = Used(
        spec=_spec(it, current.model, it.config_for(current.model, facts)),
        predicted_bytes=need.predicted_bytes,
        actual_bytes=max(taken, facts.weights.size_bytes),
        host_bytes=0,
        at=ready_at,
    )
    return used if need.pool == RAM else _on_gpu(used, need.pool, _places(it, machine))


def _on_gpu(used: Used, pool: PoolKey, found: Amounts) -> Used | None:
    """What a load has in an APU's own memory may have to be borrowed the next time: it counts as well."""
    if pool not in found:
        return None
    own = (PoolKind.VRAM, PoolKind.GTT) if pool.kind is PoolKind.GTT else (pool.kind,)
    return replace(
        used,
        actual_bytes=sum(found.get(PoolKey(kind, pool.gpu_index), 0) for kind in own),
        host_bytes=_in_ram(pool, found),
        places=tuple(Term(str(key), amount) for key, amount in sorted(found.items()) if amount),
    )


def _in_ram(pool: PoolKey, found: Amounts) -> int:
    """Besides the pool of the weights; what an APU borrows because its own memory is full is RAM."""
    spilt = 0 if pool.kind is PoolKind.GTT else found.get(PoolKey(PoolKind.GTT, pool.gpu_index), 0)
    return found[RAM] + spilt


def _places(it: Shown, machine: Machine) -> Amounts:
    """Where the current container's memory is; nothing where its processes do not tell."""
    found = it.life.facts.footprint
    return {} if found is None else places(found, machine)


def _spec(it: Shown, model: str, config: SlotConfig) -> str:
    """What makes a load's memory what it is."""
    words = (model, it.provider.name, it.device, config.gpu_index, config.context_size, *config.extra_args)
    return " ".join(str(word) for word in words)


def wanted_of(it: Shown, facts: FactsOf, machine: Machine, model: str | None = None) -> Need | None:
    """What `model` would take (None: its present wish); None without a model."""
    model = model or it.life.desired.model
    return None if model is None else need_of(it, model, facts(model), machine)


def rests(life: Life) -> bool:
    """Nothing of it runs or is about to: it holds nothing, whatever else is known of it."""
    return life.phase in (Phase.OFFLINE, Phase.PULLING) and not life.facts.containers


def holdings_of(it: Shown, facts: FactsOf, machine: Machine, promised: Need | None = None) -> Iterator[Holding]:
    """Everything the slot holds: what its load or its container has, a next one beside it, and what is leaving.

    `promised` counts while the slot asks for room; from then on it is what the slot knows itself.
    """
    current, known = it.life.facts.current, it.life.facts
    promised = promised if known.busy is Effect.ADMIT else None
    if it.life.phase is Phase.STARTING and current is None:
        if known.admitted is not None:
            yield _holding(it, known.admitted, Standing.LOADING)
        elif promised is not None:
            yield _holding(it, promised, Standing.RESERVED)
    elif current is not None and (standing := _standing(it)) is not None:
        need = known.admitted or need_of(it, current.model, facts(current.model), machine)
        yield _measured(_holding(it, need, standing), known.memory_bytes, _places(it, machine))
    if known.next is not None:
        need = known.next_admitted or need_of(it, known.next.model, facts(known.next.model), machine)
        yield _holding(it, need, Standing.LOADING)
    elif it.life.overlaps and (kept := known.next_admitted or promised) is not None:
        yield _holding(it, kept, Standing.RESERVED)
    for container in known.leaving:  # also one that was only created: its start may still be on the way to podman
        need = need_of(it, container.model, facts(container.model), machine)
        yield _holding(it, need, Standing.STUCK if container.name in known.stuck else Standing.LEAVING)


def unasked(it: Shown, since: float) -> int | None:
    """Its priority, when nobody has asked for it `since` then and nobody waits for it; None: somebody has, or does."""
    desired = it.life.desired
    asked = desired.at >= since and desired.by is not By.CONFIG
    return None if asked or it.queued else it.config.priority


def is_coming(life: Life) -> bool:
    """It is on its way up, and has not asked for room yet."""
    facts = life.facts
    asks = facts.current is None and facts.admitted is None and facts.fault is None
    return wanted(life.desired) and asks and life.phase in (Phase.OFFLINE, Phase.PULLING, Phase.STARTING)


def reserved(it: Shown, facts: FactsOf, machine: Machine) -> Iterator[Holding]:
    """What it will take."""
    if (need := wanted_of(it, facts, machine)) is not None:
        yield _holding(it, need, Standing.RESERVED)


def may_leave(it: Shown) -> bool:
    """It could be unloaded now to make room for another: never pinned, never serving, never amid a swap.

    Nor one that no request would load again.
    """
    ready = it.life.phase is Phase.READY and it.life.desired.want is Want.LOADED and it.life.facts.swap is None
    return ready and it.config.load_on_request and not it.config.pinned and not it.unsaved and it.in_flight == 0


def overdue(it: Shown) -> bool:
    """What is on its way out should be gone by now."""
    return it.now - it.book.since > it.config.drain_s + STOP_S + UNLOADING_GRACE_S


def _holding(it: Shown, need: Need, standing: Standing) -> Holding:
    return Holding(
        slot=it.name,
        need=need,
        standing=standing,
        priority=it.config.priority,
        pinned=it.config.pinned,
        bound=it.unsaved,
        comes_back=it.config.load_on_request,
        in_flight=it.in_flight,
        last_used=it.book.last_used or 0.0,
        reload_s=expected_s(it.book.history, it.live_model),
    )


def _measured(holding: Holding, memory_bytes: int | None, found: Amounts) -> Holding:
    """With what its container takes of RAM; that is all when its weights are there, and the rest when they are not.

    Where its processes tell of a GPU's memory they are believed on both.
    """
    pool = holding.need.pool
    if pool == RAM:
        return replace(holding, used_bytes=memory_bytes)
    if pool not in found:
        return replace(holding, used_host_bytes=memory_bytes)
    return replace(holding, used_bytes=found[pool], used_host_bytes=_in_ram(pool, found))


def _standing(it: Shown) -> Standing | None:
    life = it.life
    match life.phase:
        case Phase.OFFLINE | Phase.PULLING:
            return None
        case Phase.STARTING | Phase.WARMING:
            return Standing.LOADING
        case Phase.READY:
            return Standing.LOADED if life.desired.want is Want.LOADED else Standing.LEAVING
        case Phase.UNLOADING | Phase.ERROR:
            return Standing.STUCK if overdue(it) else Standing.LEAVING
        case _:
            assert_never(life.phase)
