"""`/api/models/fit`: would a model fit, asked before anything is fetched or loaded."""

import functools
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from hal0.api import models
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
_ASKED: Final = (
    ("context", "context_size", 128, "a number of tokens"),
    ("parallel", "parallel", 1, "a number of requests"),
)


@dataclass(frozen=True, slots=True)
class Known:
    id: str
    capabilities: frozenset[Capability]
    facts: ModelFacts
    installed: bool


async def show(request: web.Request) -> web.Response:
    """The figures of the slot that would load it, as it is configured now but for what is asked."""
    services, name, asked = request.app[SERVICES], request.query.get("model"), asked_fields(request)
    if not name:
        if services.registry.get("fit") is not None:
            return await models.shown(services, "fit")  # of a model that is called so this is the path
        raise Hal0Error("request.missing_model", "cannot tell what fits: no model is named", param="model")
    known = await known_of(services, name)
    slot = services.supervisor.slot(request.query.get("slot") or slot_for(services, known.capabilities))
    beside = _beside(services, slot.name, request.query.get("with"))
    it = slot.shown()
    config = it.config_for(known.id, known.facts).model_copy(update=asked)
    weigh = functools.partial(need_of, it, known.id, known.facts, config=config)
    [fit] = await services.supervisor.fit(slot.name, [weigh], beside)
    talks = config.provider is ProviderName.LLAMACPP
    return answer(
        FitView(
            model=known.id,
            installed=known.installed,
            size_bytes=known.facts.size_bytes or None,
            slot=slot.name,
            context=context_of(config, known.facts.context_length),
            parallel=config.parallel,
            beside=list(beside),
            verdict=fit.verdict,
            message=words(fit) + (f" beside {' and '.join(beside)}" if beside else ""),
            need_bytes=fit.need.total_bytes,
            terms=[TermView(name=term.name, bytes=term.bytes) for term in fit.need.terms],
            pool=str(fit.pool),
            pool_need_bytes=fit.need_bytes,
            free_bytes=fit.free_bytes,
            total_bytes=fit.total_bytes,
            short_bytes=fit.short_bytes,
            slots=list(fit.slots),
            guess=talks and known.facts.weights.cache_bytes_per_token is None,
        )
    )


def _beside(services: Services, slot: SlotName, names: str | None) -> tuple[SlotName, ...]:
    """Raises slot.not_found, slot.no_model for what cannot be loaded beside it."""
    found = []
    for name in dict.fromkeys(filter(None, (names or "").split(","))):
        other = services.supervisor.slot(name)
        if other.name == slot:
            raise Hal0Error("request.invalid", f"cannot load {slot} beside itself", param="with")
        if other.life.desired.model is None:
            raise Hal0Error("slot.no_model", f"cannot tell what fits beside {name}: it has no model", param="with")
        found.append(other.name)
    return tuple(found)


async def known_of(services: Services, name: str) -> Known:
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
        return Known(entry.id, entry.capabilities, facts, installed=True)
    return _absent(await services.pulls().looking.weighed(name))


def _absent(model: Absent) -> Known:
    if model.size_bytes is None:
        raise Hal0Error("model.not_found", f"cannot tell how large {model.id} is: nobody has said", param="model")
    return Known(model.id, model.capabilities, facts_of(model, ""), installed=False)


def slot_for(services: Services, capabilities: frozenset[Capability]) -> SlotName:
    """The one for its task; a reranker's before there is a slot for it: where the other encoders are."""
    named = next((slot for capability, slot in _SLOTS.items() if capability in capabilities), BUILTIN_SLOTS[0])
    return named if services.supervisor.get(named) is not None else _SLOTS[Capability.EMBED]


def asked_fields(request: web.Request) -> dict[str, int]:
    """Slot fields that are asked for instead of the slot's own."""
    asked = {}
    for name, field, least, what in _ASKED:
        if (text := request.query.get(name)) is None:
            continue
        if not (text.isascii() and text.isdecimal() and len(text) <= 8 and int(text) >= least):
            raise Hal0Error(
                "request.invalid", f"cannot use {name}={text[:40]!r}: it is {what}, at least {least}", param=name
            )
        asked[field] = int(text)
    return asked
