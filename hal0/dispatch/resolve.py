"""Which slot answers a request: the rules in order, first hit wins, every rule tried leaves the fact that decided it.

Pure: the same ask, table and in-flight figures give the same outcome, which is exactly one Decision or Refusal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NamedTuple

from hal0.dispatch.surface import PathRow, answers
from hal0.dispatch.table import PRIMARY, Busy, Table
from hal0.errors import Hal0Error
from hal0.slots.handle import SlotSnapshot
from hal0.vocab import Capability, Rule, SlotName

# Rule 5: which slots answer for a capability, in order of preference; everything else is the chat slot's.
_SLOTS_FOR: Final = {
    Capability.EMBED: (SlotName("embed"),),
    Capability.RERANK: (SlotName("embed-rerank"), SlotName("embed")),
    Capability.TTS: (SlotName("tts"),),
    Capability.STT: (SlotName("stt"),),
    Capability.IMAGE: (SlotName("img"),),
}


class Ask(NamedTuple):
    """What is known of a request: its path, the model as asked, and the id that this spelling means."""

    path: PathRow
    asked: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Tried:
    rule: Rule
    hit: bool
    fact: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`model` is the id the slot answers for; None when the slot has none yet."""

    slot: SlotName
    rule: Rule
    model: str | None
    tried: tuple[Tried, ...]
    candidates: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    error: Hal0Error
    tried: tuple[Tried, ...]
    candidates: tuple[SlotName, ...] = ()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A rule's answer: the slots it offers (none: it does not apply) and why."""

    slots: tuple[SlotName, ...]
    fact: str
    by_model: bool = False  # the slots were chosen for the model id, so only its entries count


_RuleFn = Callable[[Ask, Table], _Outcome]


def _address(ask: Ask, table: Table) -> _Outcome:
    slot = table.addresses.get(ask.asked or "")
    if slot is None:
        return _Outcome((), "no model is named" if ask.asked is None else f"no slot is called {ask.asked!r}")
    return _Outcome((slot,), f"{ask.asked!r} means the slot {slot!r}")


def _preemption(ask: Ask, table: Table) -> _Outcome:
    slots = table.loaded.get(ask.model or "", ())
    if slots:
        return _Outcome(slots, f"{ask.model!r} is loaded in {_listed(slots)}", by_model=True)
    return _Outcome((), _unnamed(ask) or f"no loaded slot serves {ask.model!r}")


def _registry(ask: Ask, table: Table) -> _Outcome:
    slots = table.bound.get(ask.model or "", ())
    if slots:
        return _Outcome(slots, f"{ask.model!r} is the model of {_listed(slots)}", by_model=True)
    if ask.model in table.entries:
        return _Outcome((), f"{ask.model!r} is on disk, but no slot has it as its model")
    return _Outcome((), _unnamed(ask) or f"{ask.model!r} is not on disk")


def _passthrough(ask: Ask, table: Table) -> _Outcome:
    return _Outcome((), _unnamed(ask) or "skipped: no upstreams are configured")


_prefetch: _RuleFn = _passthrough


def _capability(ask: Ask, table: Table) -> _Outcome:
    needed = ask.path.capability
    for name in _SLOTS_FOR.get(needed, (PRIMARY,)):
        if name in table.slots:
            return _Outcome((name,), f"{ask.path.path} needs {needed}, which is the slot {name!r}")
    return _Outcome((), f"no slot is there for {needed}")


_RULES: Final[tuple[tuple[Rule, _RuleFn], ...]] = (
    (Rule.ADDRESS, _address),
    (Rule.PREEMPTION, _preemption),
    (Rule.REGISTRY, _registry),
    (Rule.PASSTHROUGH, _passthrough),
    (Rule.PREFETCH, _prefetch),
    (Rule.CAPABILITY, _capability),
)


def resolve(ask: Ask, table: Table, busy: Busy, *, strict: bool) -> Decision | Refusal:
    """Try the rules in order; `strict` ends before the last one, which guesses."""
    tried: list[Tried] = []
    for rule, attempt in _RULES:
        if rule is Rule.CAPABILITY and strict:
            tried.append(Tried(rule, hit=False, fact="skipped: dispatch.strict_models is on"))
            break
        outcome = attempt(ask, table)
        tried.append(Tried(rule, hit=bool(outcome.slots), fact=outcome.fact))
        if outcome.slots:
            return _choose(ask, table, busy, rule, outcome, tuple(tried))
    return Refusal(_no_route(ask, table), tuple(tried))


def _choose(
    ask: Ask, table: Table, busy: Busy, rule: Rule, outcome: _Outcome, tried: tuple[Tried, ...]
) -> Decision | Refusal:
    """The best of the offered slots that can do the path; a slot without any model is left to the gate."""
    wanted = ask.model if outcome.by_model else None
    offered = [table.slots[name] for name in outcome.slots]
    able = [slot for slot in offered if not slot.serves or _model_for(slot, ask.path.capability, wanted) is not None]
    if not able:
        return Refusal(_mismatch(ask, offered[0]), tried, outcome.slots)
    best = able[0]
    if len(able) > 1:
        best = min(able, key=lambda slot: (not slot.routable, busy(slot.name), -slot.priority, slot.name))
    return Decision(
        slot=best.name,
        rule=rule,
        model=_model_for(best, ask.path.capability, wanted),
        tried=tried,
        candidates=outcome.slots,
    )


def _model_for(slot: SlotSnapshot, needed: Capability, wanted: str | None) -> str | None:
    for serves in slot.serves:
        if answers(serves.capability, needed) and wanted in (None, serves.model):
            return serves.model
    return None


def _mismatch(ask: Ask, slot: SlotSnapshot) -> Hal0Error:
    can = sorted({str(serves.capability) for serves in slot.serves})
    model = ask.model if ask.model in {serves.model for serves in slot.serves} else slot.model
    return Hal0Error(
        "dispatch.capability_mismatch",
        f"cannot answer {ask.path.path} with {model!r} in slot {slot.name!r}: it does {', '.join(can)}",
        param="model",
        details={"slot": slot.name, "needs": ask.path.capability, "serves": can},
    )


def _no_route(ask: Ask, table: Table) -> Hal0Error:
    if ask.asked is None:
        return Hal0Error("request.missing_model", "cannot choose a slot: the request names no model", param="model")
    known = sorted({*table.addresses, *table.bound, *table.entries})
    close = get_close_matches(ask.asked, known, n=3)
    message = f"cannot find anything that serves {ask.asked!r}"
    if close:
        message += f"; did you mean {' or '.join(repr(name) for name in close)}?"
    return Hal0Error("dispatch.no_route", message, param="model", details={"did_you_mean": close})


def _unnamed(ask: Ask) -> str | None:
    return "no model is named" if ask.model is None else None


def _listed(slots: Sequence[SlotName]) -> str:
    return ", ".join(repr(str(name)) for name in slots)
