"""Who answers a request: the rules in order, first hit wins, every rule tried leaves the fact that decided it.

Pure: the same ask, table and in-flight figures give the same outcome, which is exactly one Decision (a slot answers),
Passage (an upstream does) or Refusal. Asking cold upstreams for their lists is not pure, and so not done here: who
finds `wants_lists` asks them, then resolves again with the names of those that answered.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from heapq import nsmallest
from typing import Final, NamedTuple

from hal0.config.upstreams import UpstreamKind
from hal0.dispatch.surface import PathRow, answers
from hal0.dispatch.table import PRIMARY, Busy, Table, bound_hop
from hal0.errors import Hal0Error
from hal0.slots.handle import SlotSnapshot
from hal0.upstreams.snapshot import Hop
from hal0.vocab import Capability, Phase, Rule, SlotName, Want

# Rule 5: which slots answer for a capability, in order of preference; everything else is the chat slot's.
_SLOTS_FOR: Final = {
    Capability.EMBED: (SlotName("embed"),),
    Capability.RERANK: (SlotName("embed-rerank"), SlotName("embed")),
    Capability.TTS: (SlotName("tts"),),
    Capability.STT: (SlotName("stt"),),
    Capability.IMAGE: (SlotName("img"),),
}
# What the kinds speak besides everything. Anthropic's API is its own: nothing is translated into it.
_SPOKEN: Final = {UpstreamKind.ANTHROPIC: frozenset({"/messages", "/messages/count_tokens"})}
# "Did you mean" looks at so many of the ids that upstreams list, those nearest in length: comparing is not cheap.
_COMPARED: Final = 256


class Ask(NamedTuple):
    """What is known of a request: its path, the model as asked, and the id that this spelling means.

    `fetched`: the upstreams whose lists were asked for on its behalf, and came; `vain`: those whose did not come.
    `slots` are those that its key is limited to; None: no limit.
    """

    path: PathRow
    asked: str | None
    model: str | None
    fetched: Collection[str] = ()
    slots: frozenset[SlotName] | None = None
    vain: Collection[str] = ()


@dataclass(frozen=True)  # no slots: it is written with every decision, see DecisionRecord
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
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """The request goes to one of these upstreams: which one is chance, by priority and weight, when it is sent.

    `model` is the id as it was asked for, None when a slot stands for the upstream and the request names no model;
    `slot` is that slot.
    """

    hops: tuple[Hop, ...]
    rule: Rule
    model: str | None
    tried: tuple[Tried, ...]
    candidates: tuple[str, ...]
    slot: SlotName | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    error: Hal0Error
    tried: tuple[Tried, ...]
    candidates: tuple[str, ...] = ()


Outcome = Decision | Passage | Refusal


@dataclass(frozen=True, slots=True)
class _Offer:
    """A rule's answer: the slots or the upstreams it offers (none: it does not apply) and why."""

    slots: tuple[SlotName, ...]
    fact: str
    by_model: bool = False  # the slots were chosen for the model id, so only its entries count
    hops: tuple[Hop, ...] = ()


_RuleFn = Callable[[Ask, Table], _Offer]


def _address(ask: Ask, table: Table) -> _Offer:
    slot = table.addresses.get(ask.asked or "")
    if slot is None:
        return _Offer((), "no model is named" if ask.asked is None else f"no slot is called {ask.asked!r}")
    return _Offer((slot,), f"{ask.asked!r} means the slot {slot!r}")


def _preemption(ask: Ask, table: Table) -> _Offer:
    slots = table.loaded.get(ask.model or "", ())
    if slots:
        return _Offer(slots, f"{ask.model!r} is loaded in {_listed(slots)}", by_model=True)
    return _Offer((), _unnamed(ask) or f"no loaded slot serves {ask.model!r}")


def _registry(ask: Ask, table: Table) -> _Offer:
    """By the operator's binding, else by what the slots are configured with."""
    bound = _binding(ask, table)
    if bound.slots or bound.hops:
        return bound
    offer = _configured(ask, table)
    return replace(offer, fact=f"{bound.fact}; {offer.fact}") if bound.fact else offer


def _binding(ask: Ask, table: Table) -> _Offer:
    """An upstream that cannot be asked is no reason to fail: the next rule may know another one."""
    binding = table.bindings.get(ask.model or "")
    if binding is None:
        return _Offer((), "")
    if binding.slot is not None:
        slot = table.slots.get(SlotName(binding.slot))
        if slot is None:
            return _Offer((), f"{ask.model!r} is bound to the slot {binding.slot!r}, which is not there")
        return _Offer((slot.name,), f"{ask.model!r} is bound to the slot {slot.name!r}")
    upstream = table.upstreams.get(binding.upstream or "")
    if upstream is None or not upstream.up:
        why = "is not there" if upstream is None else "cannot be reached"
        return _Offer((), f"{ask.model!r} is bound to the upstream {binding.upstream!r}, which {why}")
    hop = bound_hop(upstream, binding.model or ask.model or "")
    return _Offer((), f"{ask.model!r} is bound to {hop.model!r} of the upstream {upstream.name!r}", hops=(hop,))


def _configured(ask: Ask, table: Table) -> _Offer:
    slots = table.bound.get(ask.model or "", ())
    if slots:
        return _Offer(slots, f"{ask.model!r} is the model of {_listed(slots)}", by_model=True)
    if ask.model in table.entries:
        return _Offer((), f"{ask.model!r} is on disk, but no slot has it as its model")
    return _Offer((), _unnamed(ask) or f"{ask.model!r} is not on disk")


def _passthrough(ask: Ask, table: Table) -> _Offer:
    """By the lists that were there when the request came; upstreams' ids are their own words, and not folded."""
    if not table.upstreams:
        return _Offer((), _unnamed(ask) or "skipped: no upstreams are configured")
    hops = tuple(hop for hop in table.listed.get(ask.asked or "", ()) if hop.upstream not in ask.fetched)
    if hops:
        return _Offer((), f"{ask.asked!r} is listed by {_named(hops)}", hops=hops)
    return _Offer((), _unnamed(ask) or f"no upstream is known to list {ask.asked!r}")


def _prefetch(ask: Ask, table: Table) -> _Offer:
    """By the lists that were fetched for this request."""
    if ask.asked is None or not table.upstreams:
        return _passthrough(ask, table)
    hops = tuple(hop for hop in table.listed.get(ask.asked, ()) if hop.upstream in ask.fetched)
    if hops:
        return _Offer((), f"asked for their models now: {ask.asked!r} is listed by {_named(hops)}", hops=hops)
    came = f"{_listed(sorted(ask.fetched))} without {ask.asked!r}" if ask.fetched else ""
    lost = f"no list came from {_listed(sorted(ask.vain))}" if ask.vain else ""
    if came or lost:
        return _Offer((), f"asked for their models now: {'; '.join(filter(None, (came, lost)))}")
    if cold := table.cold_for(ask.asked):
        return _Offer((), f"nobody knows what {_listed(cold)} would list")
    return _Offer((), "skipped: every list that may have it is known, or could not be had")


def _tag(ask: Ask, table: Table) -> _Offer:
    """All of the last rule that is no guess."""
    slot = table.tags.get(ask.asked or "")
    if slot is None:
        return _Offer((), "skipped: dispatch.strict_models is on")
    return _Offer((slot,), f"{ask.asked!r} is a model that only the slot {slot!r} knows")


def _capability(ask: Ask, table: Table) -> _Offer:
    if ask.asked in table.tags:
        return _tag(ask, table)
    needed = ask.path.capability
    what = needed or "a model"
    for name in _SLOTS_FOR.get(needed, (PRIMARY,)) if needed else (PRIMARY,):
        if name in table.slots:
            return _Offer((name,), f"{ask.path.path} needs {what}, which is the slot {name!r}")
    return _Offer((), f"no slot is there for {what}")


_RULES: Final[tuple[tuple[Rule, _RuleFn], ...]] = (
    (Rule.ADDRESS, _address),
    (Rule.PREEMPTION, _preemption),
    (Rule.REGISTRY, _registry),
    (Rule.PASSTHROUGH, _passthrough),
    (Rule.PREFETCH, _prefetch),
    (Rule.CAPABILITY, _capability),
)


def resolve(ask: Ask, table: Table, busy: Busy, *, strict: bool) -> Outcome:
    """Try the rules in order; `strict` takes of the last one only what is no guess."""
    tried: list[Tried] = []
    for rule, attempt in _RULES:
        offer = _tag(ask, table) if strict and rule is Rule.CAPABILITY else attempt(ask, table)
        tried.append(Tried(rule, hit=bool(offer.slots or offer.hops), fact=offer.fact))
        if tried[-1].hit:
            if offer.hops:
                return _pass(ask, table, rule, offer.hops, tuple(tried))
            return _choose(ask, table, busy, rule, offer, tuple(tried))
    return Refusal(_no_route(ask, table), tuple(tried))


def wants_lists(asked: str | None, outcome: Outcome, table: Table) -> bool:
    """Whether lists that nobody knows yet could change this outcome."""
    if asked is None or not table.cold or not table.cold_for(asked):
        return False
    return any(tried.rule is Rule.PREFETCH for tried in outcome.tried)


def _choose(ask: Ask, table: Table, busy: Busy, rule: Rule, offer: _Offer, tried: tuple[Tried, ...]) -> Outcome:
    """The best of the offered slots that can do the path; a slot without any model is left to the gate."""
    wanted = ask.model if offer.by_model else None
    offered = [table.slots[name] for name in offer.slots]
    able = [slot for slot in offered if not slot.serves or _model_for(slot, ask.path.capability, wanted) is not None]
    if not able:
        return Refusal(_mismatch(ask, offered[0]), tried, offer.slots)
    if ask.slots is not None:
        able = [slot for slot in able if slot.name in ask.slots]
        if not able:
            return Refusal(_outside(ask.slots, offer.slots), tried, offer.slots)
    best = able[0]
    if len(able) > 1:
        best = min(able, key=lambda slot: (*_readiness(slot), busy(slot.name), -slot.priority, slot.name))
    if best.name in table.fronts:
        return _pass(ask, table, rule, (table.fronts[best.name],), tried, best.name)
    return Decision(
        slot=best.name,
        rule=rule,
        model=_model_for(best, ask.path.capability, wanted),
        tried=tried,
        candidates=offer.slots,
    )


def _readiness(slot: SlotSnapshot) -> tuple[bool, ...]:
    """The least is the readiest: who can be loaded comes before who has failed, or waits for an operator."""
    asleep = slot.phase is Phase.OFFLINE and slot.want is Want.UNLOADED and not slot.load_on_request
    return not slot.routable, slot.phase is Phase.ERROR or asleep


def _pass(
    ask: Ask,
    table: Table,
    rule: Rule,
    hops: tuple[Hop, ...],
    tried: tuple[Tried, ...],
    slot: SlotName | None = None,
) -> Passage | Refusal:
    """Those of the upstreams that speak the path, and can do it as far as they have said."""
    names = tuple(hop.upstream for hop in hops)
    if ask.slots is not None and slot is None:
        return Refusal(_outside(ask.slots, names), tried, names)
    able = tuple(hop for hop in hops if _speaks(hop, ask, table))
    if not able:
        return Refusal(_not_spoken(ask, hops[0], table), tried, names)
    return Passage(able, rule, ask.asked, tried, names if slot is None else (slot,), slot)


def _speaks(hop: Hop, ask: Ask, table: Table) -> bool:
    if ask.path.only_here:
        return False
    upstream = table.upstreams.get(hop.upstream)
    if upstream is None:  # switched off or gone: that is what the client is to be told
        return True
    if upstream.kind in _SPOKEN and ask.path.path not in _SPOKEN[upstream.kind]:
        return False
    return not hop.able or any(answers(capability, ask.path.capability) for capability in hop.able)


def _model_for(slot: SlotSnapshot, needed: Capability | None, wanted: str | None) -> str | None:
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


def _outside(allowed: frozenset[SlotName], offered: Sequence[str]) -> Hal0Error:
    return Hal0Error(
        "auth.forbidden",
        f"cannot answer: this goes to {_listed(offered)}, and the key is limited to {_listed(sorted(allowed))}",
        details={"slots": sorted(allowed)},
        hint="Name one of the key's slots as `model`, or use another key.",
    )


def _not_spoken(ask: Ask, hop: Hop, table: Table) -> Hal0Error:
    upstream = table.upstreams.get(hop.upstream)
    can = sorted((upstream and _SPOKEN.get(upstream.kind)) or hop.able)
    why = "only slots do" if ask.path.only_here else f"it does {', '.join(can)}"
    return Hal0Error(
        "dispatch.capability_mismatch",
        f"cannot answer {ask.path.path} with {hop.model!r} of upstream {hop.upstream!r}: {why}",
        param="model",
        details={"upstream": hop.upstream, "needs": ask.path.capability, "serves": can},
    )


def _no_route(ask: Ask, table: Table) -> Hal0Error:
    if ask.asked is None:
        return Hal0Error("request.missing_model", "cannot choose a slot: the request names no model", param="model")
    length = len(ask.asked)
    abroad = nsmallest(_COMPARED, table.listed, key=lambda name: abs(len(name) - length))
    known = {*table.addresses, *table.bound, *table.bindings, *table.entries, *table.tags, *abroad}
    close = _alike(ask.asked, known - {ask.asked, ask.model})
    message, hint = f"cannot find anything that serves {ask.asked!r}", None
    if ask.model in table.entries:
        message += ": it is on disk, but no slot has it as its model"
        hint = f"hal0ctl slot swap SLOT {ask.model}"
    elif close:
        message += f"; did you mean {' or '.join(repr(name) for name in close)}?"
    return Hal0Error("dispatch.no_route", message, param="model", details={"did_you_mean": close}, hint=hint)


def _alike(asked: str, known: Collection[str]) -> list[str]:
    """People write names as their makers do: with capitals, and behind a maker's name that an id here has not."""
    small: dict[str, str] = {}
    for name in sorted(known):
        small.setdefault(name.lower(), name)
    whole = asked.lower()
    close = get_close_matches(whole, small, n=3) or get_close_matches(whole.rpartition("/")[2], small, n=3)
    return [small[name] for name in close]


def _unnamed(ask: Ask) -> str | None:
    return "no model is named" if ask.model is None else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(str(name)) for name in names)


def _named(hops: Sequence[Hop]) -> str:
    return _listed([hop.upstream for hop in hops])
