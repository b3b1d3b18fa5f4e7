"""Who answers for a model whatever the rules of dispatch would find: one slot, or one upstream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Binding:
    """Either `slot`, or `upstream`; `model` is what the upstream calls it, None: the same."""

    slot: str | None = None
    upstream: str | None = None
    model: str | None = None
