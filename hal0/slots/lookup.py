"""What the registry says about models, as slots need it; remembered until the registry changes."""

from hal0.errors import Hal0Error
from hal0.models.registry import Registry
from hal0.slots.need import weights_of
from hal0.slots.view import ModelFacts


class Lookup:
    """Call it with a model's id, or None for a slot without one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._facts: dict[str | None, ModelFacts] = {}
        self._version = -1

    def __call__(self, model: str | None) -> ModelFacts:
        if self._version != self._registry.version:
            self._facts.clear()
            self._version = self._registry.version
        facts = self._facts.get(model)
        if facts is None:
            facts = self._facts[model] = self._look_up(model)
        return facts

    def _look_up(self, model: str | None) -> ModelFacts:
        if model is None:
            return ModelFacts()
        try:
            entry = self._registry.require(model)
        except Hal0Error as err:
            return ModelFacts(missing=err.message)
        return ModelFacts(
            entry.size_bytes,
            entry.context_length,
            entry.demo,
            entry.capabilities,
            weights=weights_of(entry),
            riders=entry.riders,
        )
