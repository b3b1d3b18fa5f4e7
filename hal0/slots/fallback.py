"""What is tried when a slot does not start as it is configured: which fallback, when, and in which words. Pure."""

from dataclasses import replace
from typing import Final

from hal0.config.defaults import ModelDefaults
from hal0.config.profiles import laid_over
from hal0.config.slots import SlotConfig
from hal0.slots import happenings as h
from hal0.slots.logbook import Logbook
from hal0.slots.record import Failure, Fallback
from hal0.slots.state import Facts
from hal0.vocab import FailureClass, Phase

# One failure may be chance; the second of the same start is reason enough to try another one. A fallback that fails
# gives way to the next at once, and the last one stays: it is tried again on the restart curve.
STARTS: Final = 2

# What a start is made of. Another value in one of these is a new start, and gets its own try.
_STARTED_FROM: Final = (
    "provider",
    "device",
    "gpu_index",
    "image",
    "context_size",
    "parallel",
    "memory_limit",
    "extra_args",
    "env",
    "fallbacks",
    "readiness_timeout_s",
    "verify_on_load",
)


def following(active: Fallback | None, failed: int, failure: Failure, total: int) -> int | None:
    """The number of the fallback to try next; None: go on as it is.

    `failed` counts the failed starts of what is tried now, this one included. What no fallback can cure moves nothing.
    """
    number = active.number if active is not None else 0
    if number >= total or not failure.curable:
        return None
    hopeless = failure.failure_class is FailureClass.PERMANENT  # the same start would fail the same way
    return number + 1 if hopeless or number or failed >= STARTS else None


def after(before: h.Life, life: h.Life, config: SlotConfig, book: Logbook, now: float) -> h.Life:
    """`life`, in which an attempt has just failed, with the fallback that follows from it.

    Not for a container that had been ready, nor for a change of model: that one goes back.
    """
    facts, failure, model = life.facts, life.facts.fault, life.desired.model
    warmed = book.warmed and before.phase not in (Phase.PULLING, Phase.STARTING)  # the book's is the one before
    if warmed or failure is None or life.desired != before.desired:
        return life
    failed = facts.starts_failed + 1
    number = following(of_model(facts.fallback, model), failed, failure, len(config.fallbacks))
    if number is None:
        return replace(life, facts=replace(facts, starts_failed=failed))
    facts = replace(
        facts,
        fallback=Fallback(number, failure.message, now, model),
        starts_failed=0,
        fault=replace(failure, failure_class=FailureClass.TRANSIENT),  # something is left to try
        attempts=replace(facts.attempts, next_at=now),
        retry_at=now,
        fetched=False,  # its image may be another one
    )
    return replace(life, facts=replace(facts, failure=facts.fault))


def left_by(old: SlotConfig, new: SlotConfig) -> bool:
    """The configuration says something else about a start: it gets its own try."""
    return any(getattr(old, name) != getattr(new, name) for name in _STARTED_FROM)


def after_wish(facts: Facts, wished: h.Wished, *, changed: bool) -> Fallback | None:
    """The fallback that is left when a wish forgets earlier failures; `changed`: it is for another model.

    What is configured gets its own try; but a model that may come back from a swap comes back as it was.
    """
    active, swap = facts.fallback, wished.swap or facts.swap
    way_back = swap is not None and active is not None and active.model == swap.from_model
    return active if changed and way_back else None


def of_model(active: Fallback | None, model: str | None) -> Fallback | None:
    """The fallback, if it is the model's."""
    return active if active is not None and active.is_of(model) else None


def words(config: SlotConfig, active: Fallback | None) -> str | None:
    """`fallback 1 of 2 (context_size 4096)`."""
    if active is None or active.number > len(config.fallbacks):
        return None
    fields = config.fallbacks[active.number - 1].model_dump(exclude_none=True, mode="json")
    told = ", ".join(f"{name} {value}" for name, value in fields.items()) or "as configured"
    return f"fallback {active.number} of {len(config.fallbacks)} ({told})"


def fitted(
    config: SlotConfig, active: Fallback | None, model: str | None, defaults: ModelDefaults | None
) -> SlotConfig:
    """As `model` is started: what is configured over the model's defaults, and under the fallback if it is the
    model's."""
    whole = config if defaults is None else laid_over(config, defaults)
    if active is None or not active.is_of(model) or active.number > len(config.fallbacks):
        return whole
    return whole.model_copy(update=config.fallbacks[active.number - 1].model_dump(exclude_none=True))


class Fitting:
    """A slot's configuration fitted to one model after the other: the same object until something changes."""

    def __init__(self, config: SlotConfig) -> None:
        self.own = config
        self._last: tuple[Fallback | None, str | None, ModelDefaults | None] = (None, None, None)
        self._fitted = config

    def to(self, active: Fallback | None, model: str | None, defaults: ModelDefaults | None) -> SlotConfig:
        """As `fitted`."""
        wanted = (active, model, defaults)
        if wanted != self._last:
            self._last, self._fitted = wanted, fitted(self.own, *wanted)
        return self._fitted
