"""`/api/catalog/quants`: the quantisations that there are of one model, and which of them would fit."""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hal0.api.exchange import answer
from hal0.api.fit import asked_fields, known_of, slot_for
from hal0.errors import Hal0Error
from hal0.services import SERVICES, Services
from hal0.slots.claims import need_of
from hal0.slots.fit import Fit, words
from hal0.slots.plan import context_of
from hal0.slots.shown import ModelFacts
from hal0.vocab import ProviderName
from hal0.wire.fit import QuantsView, QuantView

if TYPE_CHECKING:
    from hal0.pulls.choosing import Variant

_MOST: Final = 64


async def show(request: web.Request) -> web.Response:
    """Of one model they differ in their size alone: what is known of its cache is true of each."""
    services, name, asked = request.app[SERVICES], request.query.get("model"), asked_fields(request)
    if not name:
        raise Hal0Error("request.missing_model", "cannot list quantisations: no model is named", param="model")
    source, found = await services.pulls().looking.variants(name)
    known = await known_of(services, name)
    slot = services.supervisor.slot(request.query.get("slot") or slot_for(services, known.capabilities))
    it, sized = slot.shown(), [variant for variant in found[:_MOST] if variant.size_bytes]
    config = it.config_for(known.id, known.facts).model_copy(update=asked)
    weighs = [functools.partial(need_of, it, v.model, _facts(known.facts, v), config=config) for v in sized]
    fits = dict(zip(sized, await services.supervisor.fit(slot.name, weighs), strict=True))
    talks = config.provider is ProviderName.LLAMACPP
    return answer(
        QuantsView(
            repo=source.repo,
            revision=source.revision,
            slot=slot.name,
            context=context_of(config, known.facts.context_length),
            guess=talks and known.facts.weights.cache_bytes_per_token is None,
            items=[_view(services, variant, fits.get(variant)) for variant in found[:_MOST]],
        )
    )


def _facts(known: ModelFacts, variant: "Variant") -> ModelFacts:
    size = variant.size_bytes or 0
    return replace(known, size_bytes=size, weights=replace(known.weights, size_bytes=size))


def _view(services: Services, variant: "Variant", fit: Fit | None) -> QuantView:
    return QuantView(
        model=variant.model,
        quantisation=variant.quantisation,
        files=[file.path for file in variant.files],
        digests={file.path: file.sha256 for file in variant.files if file.sha256 is not None},
        size_bytes=variant.size_bytes,
        need_bytes=None if fit is None else fit.need.total_bytes,
        verdict=None if fit is None else fit.verdict,
        message=None if fit is None else words(fit),
        installed=services.registry.get(variant.model) is not None,
    )
