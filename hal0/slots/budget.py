"""Whether a load fits, who makes room for it, and the arithmetic when it cannot: admission and eviction. Pure."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from hal0.errors import Hal0Error
from hal0.hardware.pools import RAM, MemoryPool, PoolKey
from hal0.slots.ledger import (
    Amounts,
    Holding,
    Ledger,
    Room,
    Standing,
    claim,
    freed,
    pool_bytes,
    room_of,
    short_of,
    spread,
)
from hal0.slots.need import Need
from hal0.vocab import SlotName

# A slot that never loaded here is taken to load as fast as a disk reads: 1 GB/s, and never below a second.
_DISK_BYTES_PER_S: Final = 1e9
RECOVERY_S: Final = 5.0  # how long freed GPU memory may take to be seen free; after that the figures are believed
_MOSTLY: Final = 0.9  # other programs move meanwhile: most of it back is all of it back


@dataclass(frozen=True, slots=True)
class Fits:
    """Load now; the slot's holding becomes `loading` first."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It fits once these have left: reserve, and ask again when one has."""

    leaving: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Evict:
    """Reserve, unload these in this order, and ask again when their memory is back."""

    victims: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """507 slot.memory_budget. `blocked_by`: slots that serve or load now and without which it would fit.

    With nobody in the way it will not fit later either: a permanent failure.
    """

    error: Hal0Error
    blocked_by: tuple[SlotName, ...]


Verdict: TypeAlias = Fits | Wait | Evict | Refuse


def admit(
    slot: SlotName, need: Need, ledger: Ledger, now: float, *, beside: bool = False, over: int | None = None
) -> Verdict:
    """May `slot` load? What it holds itself leaves first, unless the new one starts `beside` it (swap by overlap).

    `over`: its priority, when nobody has asked for it: then nobody who matters more leaves for it.
    """
    outgoing = (Standing.LEAVING, Standing.STUCK)  # containers that were its own: they are waited for as others are
    mine = (h for h in ledger.holdings if h.slot == slot and h.standing not in outgoing)
    own = None if beside else next(mine, None)
    others = [h for h in ledger.holdings if h is not own]
    wanted = spread(ledger, need.pool, need.bytes, need.host_bytes)
    room = room_of(ledger, others, own)
    if not short_of(wanted, room):
        return Fits()
    leaving = [h for h in others if h.standing is Standing.LEAVING]
    room = freed(ledger, room, leaving)
    if not short_of(wanted, room):
        return Wait(tuple(h.slot for h in leaving))
    candidates = [h for h in others if h.evictable and (over is None or h.priority <= over)]
    victims = _victims(ledger, wanted, room, candidates, now)
    if victims is not None:
        return Evict(tuple(h.slot for h in victims))
    busy = [h for h in others if not h.stays and h not in candidates and h.standing is not Standing.LEAVING]
    in_the_way = not short_of(wanted, freed(ledger, room, [*candidates, *busy]))
    blocked_by = tuple(dict.fromkeys(h.slot for h in busy)) if in_the_way else ()
    return Refuse(_refusal(slot, need, ledger, others, own, blocked_by), blocked_by)


def would_fit(slot: SlotName, need: Need, ledger: Ledger, *, without: Collection[SlotName] = ()) -> bool:
    """Would there be room with these gone, and everybody who may leave or leaves already?"""
    others = [h for h in ledger.holdings if h.slot != slot]
    own = next((h for h in ledger.holdings if h.slot == slot), None)
    gone = [h for h in others if h.slot in without or h.evictable or h.standing is Standing.LEAVING]
    wanted = spread(ledger, need.pool, need.bytes, need.host_bytes)
    return not short_of(wanted, freed(ledger, room_of(ledger, others, own), gone))


def fits_together(needs: Mapping[SlotName, Need], ledger: Ledger) -> bool:
    """Could these slots be loaded at the same time, with everybody else gone who may be asked to go?"""
    staying = [h for h in ledger.holdings if (h.slot not in needs and h.stays) or h.standing is Standing.STUCK]
    gone = [h for h in ledger.holdings if h not in staying]
    room = freed(ledger, room_of(ledger, ledger.holdings, None), gone)
    wanted: dict[PoolKey, float] = {}
    for need in needs.values():
        for key, amount in spread(ledger, need.pool, need.bytes, need.host_bytes).items():
            wanted[key] = wanted.get(key, 0.0) + amount
    return not short_of(wanted, room)


def memory_back(holding: Holding, before: Iterable[MemoryPool], now: Iterable[MemoryPool]) -> bool:
    """Is the GPU memory of a slot that was stopped seen free again? (RAM is free when its process is gone.)"""
    key = holding.need.pool
    was, is_now = ({pool.key: pool.free_bytes for pool in pools}.get(key) for pools in (before, now))
    if key == RAM or was is None or is_now is None:
        return True
    held = holding.need.bytes if holding.used_bytes is None else holding.used_bytes
    return is_now - was >= held * _MOSTLY


def eviction_order(holdings: Iterable[Holding], now: float) -> list[Holding]:
    """Low priority first; among equals the one that has been idle longest for what bringing it back costs."""
    return sorted(holdings, key=lambda h: (h.priority, -max(now - h.last_used, 0.0) / _reload_s(h), h.slot))


def _reload_s(holding: Holding) -> float:
    return max(holding.reload_s or pool_bytes(holding) / _DISK_BYTES_PER_S, 1.0)


def _victims(
    ledger: Ledger, wanted: Amounts, room: Room, candidates: Iterable[Holding], now: float
) -> list[Holding] | None:
    """As few as possible of them, the cheapest first; None when all of them are not enough."""
    short = short_of(wanted, room)
    chosen: list[Holding] = []
    for holding in eviction_order(candidates, now):
        if short_of(wanted, freed(ledger, room, chosen)) and short.keys() & claim(ledger, holding).keys():
            chosen.append(holding)
    if short_of(wanted, freed(ledger, room, chosen)):
        return None
    for holding in reversed(chosen):  # a small one may have been taken before the one that is enough
        rest = [h for h in chosen if h is not holding]
        if not short_of(wanted, freed(ledger, room, rest)):
            chosen = rest
    return chosen


def _refusal(
    slot: SlotName,
    need: Need,
    ledger: Ledger,
    others: list[Holding],
    own: Holding | None,
    blocked_by: tuple[SlotName, ...],
) -> Hal0Error:
    """Names the pool that is shortest, what is free in it, and who has the rest."""
    wanted = spread(ledger, need.pool, need.bytes, need.host_bytes)
    room = room_of(ledger, others, own)
    key = max(short_of(wanted, room).items(), key=lambda item: item[1])[0]
    free = max(room.of(key), 0.0)
    holders = [(h, claim(ledger, h).get(key, 0.0)) for h in others]
    reasons = [f"{h.slot} {_why(h)}" for h, amount in holders if amount and (not h.evictable or h.slot in blocked_by)]
    pool = next(pool for pool in ledger.pools if pool.key == key)
    total = min((size for size in (pool.total_bytes, pool.limit_bytes) if size is not None), default=0)
    return Hal0Error(
        "slot.memory_budget",
        f"cannot load {slot}: it needs {_gb(wanted[key])} of {key}, {_gb(free)} is free"
        + (f" while {', '.join(reasons)}" if reasons else f" of {_gb(total)}"),
        details={
            "slot": slot,
            "pool": str(key),
            "need_bytes": int(wanted[key]),
            "free_bytes": int(free),
            "short_bytes": math.ceil(wanted[key] - free),
            "total_bytes": total,
            "blocked_by": list(blocked_by),
            "terms": [{"name": term.name, "bytes": term.bytes} for term in need.terms],
            "holders": [
                {"slot": h.slot, "bytes": int(amount), "state": h.standing.value, "evictable": h.evictable}
                for h, amount in holders
                if amount
            ],
        },
    )


def _why(holding: Holding) -> str:
    """Why it does not make room."""
    if holding.standing in (Standing.LOADING, Standing.RESERVED):
        return "loads"
    if holding.standing is Standing.LEAVING:
        return "leaves"
    if holding.standing is Standing.STUCK:
        return "does not go"
    if holding.pinned:
        return "is pinned"
    if holding.evictable:
        return "matters more"
    if not holding.comes_back:
        return "is loaded by hand only"
    return "is answering" if holding.in_flight else "cannot be unloaded now"


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
