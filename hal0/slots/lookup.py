"""What the registry says about models, as slots need it; remembered until the registry changes."""

from collections.abc import Callable

from hal0.errors import Hal0Error
from hal0.models.absent import Absent, NotHere
from hal0.models.registry import Registry
from hal0.slots.need import NO_WEIGHTS, Weights, weights_of
from hal0.slots.shown import ModelFacts
from hal0.vocab import Capability


class Lookup:
    """Call it with a model's id, or None for a slot without one. `on_request`: requests may have models fetched."""

    def __init__(self, registry: Registry, on_request: Callable[[], bool]) -> None:
        self._registry = registry
        self._on_request = on_request
        self._facts: dict[str | None, ModelFacts] = {}
        self._rests_on: tuple[int, bool] = (-1, False)

    def __call__(self, model: str | None) -> ModelFacts:
        rests_on = (self._registry.version, self._on_request())
        if self._rests_on != rests_on:
            self._facts.clear()
            self._rests_on = rests_on
        facts = self._facts.get(model)
        if facts is None:
            facts = self._facts[model] = self._look_up(model)
        return facts

    def _look_up(self, model: str | None) -> ModelFacts:
        if model is None:
            return ModelFacts()
        try:
            entry = self._registry.require(model)
        except NotHere as err:
            if err.wanted is None:
                return ModelFacts(missing=err.sentence)
            return facts_of(err.wanted, err.sentence, on_request=self._on_request())
        except Hal0Error as err:
            return ModelFacts(missing=err.message)
        return ModelFacts(
            entry.size_bytes,
            entry.context_length,
            entry.demo,
            entry.capabilities,
            weights=weights_of(entry),
            riders=entry.riders,
            defaults=entry.defaults,
        )


def facts_of(absent: Absent, missing: str, *, on_request: bool = False) -> ModelFacts:
    """What is known of a model before its files are here. It serves nothing yet."""
    size, talks = absent.size_bytes or 0, {Capability.CHAT, Capability.COMPLETION}
    weights = Weights(
        size_bytes=size,
        cache_bytes_per_token=absent.cache_bytes_per_token,
        encoder=bool(absent.capabilities) and not absent.capabilities & talks,
    )
    return ModelFacts(
        size_bytes=size,
        context_length=absent.context_length,
        missing=missing,
        weights=weights if size else NO_WEIGHTS,
        on_request=on_request,
    )
