"""A slot as dispatch sees it: where a request may go now, what it serves there, and its snapshot. Pure."""

from collections.abc import Mapping
from typing import Final

from hal0.providers.base import Endpoint, Provider
from hal0.slots.handle import Serves, SlotFailure, SlotSnapshot
from hal0.slots.happenings import Life
from hal0.slots.record import Container, Failure
from hal0.slots.shown import Shown, model_of
from hal0.slots.state import NEVER
from hal0.slots.warmup import expected_s
from hal0.vocab import BUILTIN_SLOTS, Phase, Want

# A long prompt on a slow machine: prefill alone may take minutes.
FIRST_BYTE_S: Final = 600.0


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


def _slot_failure(fault: Failure) -> SlotFailure:
    return SlotFailure(fault.failure_class, fault.code, fault.message, fault.at, fault.settled)
