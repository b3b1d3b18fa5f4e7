"""`/api/models/fit`: would a model fit, asked before anything is fetched or loaded."""

from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from hal0.api.exchange import answer
from hal0.errors import Hal0Error
from hal0.models.absent import Absent, NotHere
from hal0.services import SERVICES, Services
from hal0.slots.claims import need_of
from hal0.slots.fit import words
from hal0.slots.lookup import facts_of
from hal0.slots.plan import context_of
from hal0.slots.shown import ModelFacts
from hal0.vocab import BUILTIN_SLOTS, Capability, ProviderName, SlotName
from hal0.wire.fit import FitView
from hal0.wire.slots import TermView

_SLOTS: Final = {
    Capability.EMBED: SlotName("embed"),
    Capability.RERANK: SlotName("embed-rerank"),
    Capability.STT: SlotName("stt"),
    Capability.TTS: SlotName("tts"),
    Capability.IMAGE: SlotName("img"),
}
_LEAST_CONTEXT: Final = 128


@dataclass(frozen=True, slots=True)
class _Known:
    id: str
    capabilities: frozenset[Capability]
    facts: ModelFacts
    installed: bool


async def show(request: web.Request) -> web.Response:
    """The figures of the slot that would load it, as it is configured now."""
    services, name, context = request.app[SERVICES], request.query.get("model"), _context(request)
    if not name:
        raise Hal0Error("request.missing_model", "cannot tell what fits: no model is named", param="model")
    known = await _known(services, name)
    slot = services.supervisor.slot(request.query.get("slot") or _slot_for(services, known.capabilities))
    it = slot.shown()
    if context is not None:
        it = replace(it, config=it.config.model_copy(update={"context_size": context}))
    fit = await services.supervisor.fit(slot.name, lambda machine: need_of(it, known.id, known.facts, machine))
    weights, talks = known.facts.weights, it.config.provider is ProviderName.LLAMACPP
    return answer(
        FitView(
            model=known.id,
            installed=known.installed,
            size_bytes=known.facts.size_bytes or None,
            slot=slot.name,
            context=context_of(it.config, known.facts.context_length),
            verdict=fit.verdict,
            message=words(fit),
            need_bytes=fit.need.total_bytes,
            terms=[TermView(name=term.name, bytes=term.bytes) for term in fit.need.terms],
            pool=str(fit.pool),
            pool_need_bytes=fit.need_bytes,
            free_bytes=fit.free_bytes,
            total_bytes=fit.total_bytes,
            short_bytes=fit.short_bytes,
            slots=list(fit.slots),
            guess=talks and weights.cache_bytes_per_token is None,
        )
    )


async def _known(services: Services, name: str) -> _Known:
    """On this machine, in the catalog, or on the hub, which is asked. Raises what cannot be found there."""
    try:
        entry = services.registry.require(name)
    except NotHere as err:
        if err.wanted is not None and err.wanted.size_bytes is not None:
            return _absent(err.wanted)
    except Hal0Error:
        if "/" not in name:  # else it is the hub's to say
            raise
    else:
        facts = services.supervisor.model_facts(entry.id)
        return _Known(entry.id, entry.capabilities, facts, installed=True)
    return _absent(await services.pulls().looking.weighed(name))


def _absent(model: Absent) -> _Known:
    if model.size_bytes is None:
        raise Hal0Error("model.not_found", f"cannot tell how large {model.id} is: nobody has said", param="model")
    return _Known(model.id, model.capabilities, facts_of(model, ""), installed=False)


def _slot_for(services: Services, capabilities: frozenset[Capability]) -> SlotName:
    """The one for its task; a reranker's before there is a slot for it: where the other encoders are."""
    named = next((slot for capability, slot in _SLOTS.items() if capability in capabilities), BUILTIN_SLOTS[0])
    return named if services.supervisor.get(named) is not None else _SLOTS[Capability.EMBED]


def _context(request: web.Request) -> int | None:
    text = request.query.get("context")
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 8 and int(text) >= _LEAST_CONTEXT:
        return int(text)
    message = f"cannot use context={text[:40]!r}: it is a number of tokens, at least {_LEAST_CONTEXT}"
    raise Hal0Error("request.invalid", message, param="context")
