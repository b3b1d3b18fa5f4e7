"""What an upstream looks like to the operator: its state in one word and one sentence. Pure."""

from hal0.config.upstreams import AuthStyle
from hal0.errors import Hal0Error
from hal0.upstreams.circuit import Current
from hal0.upstreams.upstream import Upstream
from hal0.wire.upstreams import (
    AuthView,
    CircuitView,
    UpstreamModelsView,
    UpstreamModelView,
    UpstreamState,
    UpstreamView,
)


def view_of(upstream: Upstream, now: float) -> UpstreamView:
    config = upstream.config
    missing = _missing_key(upstream)
    state = state_of(upstream, missing, now)
    return UpstreamView(
        name=upstream.name,
        base_url=config.base_url,
        kind=config.kind.value,
        enabled=config.enabled,
        state=state,
        message=_sentence(upstream, state, missing, now),
        auth=AuthView(
            style=config.auth.style.value,
            header=config.auth.header,
            env=config.auth.env,
            present=config.auth.style is not AuthStyle.NONE and missing is None,
        ),
        prefix=config.prefix,
        only=list(config.models),
        priority=config.priority,
        weight=config.weight,
        models=None if upstream.models is None else len(upstream.models),
        listed_at=upstream.listed_at,
        latency_ms=upstream.latency_ms,
        circuit=CircuitView(
            state=upstream.circuit.current(now).value,
            failures=upstream.circuit.failures,
            retry_at=upstream.circuit.until,
        ),
        in_flight=upstream.in_flight,
        requests=upstream.requests,
        failures=upstream.failures,
    )


def models_of(upstream: Upstream) -> UpstreamModelsView:
    items = [
        UpstreamModelView(
            id=model.id,
            theirs=model.theirs,
            context_length=model.context_length,
            capabilities=sorted(model.capabilities),
        )
        for model in upstream.models or ()
    ]
    return UpstreamModelsView(items=items, listed_at=upstream.listed_at)


def state_of(upstream: Upstream, missing: Hal0Error | None, now: float) -> UpstreamState:
    """The worst that is true of it."""
    if not upstream.config.enabled:
        return UpstreamState.DISABLED
    if missing is not None:
        return UpstreamState.KEY_MISSING
    if upstream.rejected:
        return UpstreamState.KEY_REJECTED
    if upstream.circuit.current(now) is not Current.CLOSED:
        return UpstreamState.OFFLINE
    if upstream.problem is not None:
        return UpstreamState.OFFLINE if upstream.models is None else UpstreamState.DEGRADED
    if upstream.models is None:
        return UpstreamState.UNKNOWN
    return UpstreamState.DEGRADED if upstream.circuit.failures else UpstreamState.ONLINE


def _sentence(upstream: Upstream, state: UpstreamState, missing: Hal0Error | None, now: float) -> str:
    match state:
        case UpstreamState.DISABLED:
            return "switched off"
        case UpstreamState.KEY_MISSING if missing is not None:
            return missing.message
        case UpstreamState.KEY_REJECTED:
            return "it rejected the key"
        case _ if upstream.circuit.current(now) is Current.OPEN:
            return f"{upstream.circuit.failures} requests in a row failed; tried again in {upstream.wait_s():.0f} s"
        case _ if upstream.problem is not None:
            return upstream.problem.message
        case UpstreamState.UNKNOWN:
            return "not asked yet"
        case _:
            return offers(upstream)


def offers(upstream: Upstream) -> str:
    count = len(upstream.models or ())
    return f"{count} model{'' if count == 1 else 's'}"


def _missing_key(upstream: Upstream) -> Hal0Error | None:
    try:
        upstream.link.key()
    except Hal0Error as error:
        return error
    return None
