"""Who holds how much memory, and how much room that leaves in each pool. Pure.

The ledger is a value, made anew for every question: pools as they are measured now, and what every slot holds. It
believes the smaller of two figures, because each alone is wrong at times: what the pool has less what slots claim
(sees a load that has not allocated yet, and mapped files, which the kernel counts as available), and what is measured
to be free less what is still to be allocated (sees what other programs take).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from hal0.hardware.pools import RAM, MemoryPool, PoolKey
from hal0.slots.need import NOTHING, Need
from hal0.vocab import SlotName

# RAM that stays free for the system and hal0 itself: a sixteenth, at most 1 GiB.
_SPARE_SHARE: Final = 16
_SPARE_MOST: Final = 2**30

Amounts: TypeAlias = Mapping[PoolKey, float]


class Standing(StrEnum):
    """`reserved`: memory is kept for it, nothing runs yet. `leaving`: it still runs, or its memory is not back yet.

    `stuck`: it may still run, and nobody knows when podman will remove it.
    """

    RESERVED = "reserved"
    LOADING = "loading"
    LOADED = "loaded"
    LEAVING = "leaving"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One slot's claim. `used_bytes` and `used_host_bytes` are measured (None: not, so the need counts).

    `bound`: it cannot be unloaded at this moment, whatever anybody wants. `comes_back`: a request loads it again;
    who does not stays as who is pinned does. `last_used` in seconds on the caller's clock;
    `reload_s` is what a load takes, from its history.
    """

    slot: SlotName
    need: Need
    standing: Standing
    used_bytes: int | None = None
    used_host_bytes: int | None = None
    priority: int = 50
    pinned: bool = False
    bound: bool = False
    comes_back: bool = True
    in_flight: int = 0
    last_used: float = 0.0
    reload_s: float | None = None

    @property
    def stays(self) -> bool:
        """Only its operator unloads it."""
        return self.pinned or not self.comes_back

    @property
    def evictable(self) -> bool:
        """Never pinned, never serving."""
        free = not self.stays and not self.bound and self.in_flight == 0
        return free and self.standing is Standing.LOADED


@dataclass(frozen=True, slots=True)
class Ledger:
    """At most one holding per slot, besides those that are stuck."""

    pools: tuple[MemoryPool, ...]
    holdings: tuple[Holding, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Who holds what, and what each slot needs: one look at turns asks that for hundreds of sets of slots."""

    ledger: Ledger
    need: Callable[[SlotName], Need | None]


def spare_bytes(pool: MemoryPool) -> int:
    """What of a pool is never given to slots."""
    return min((pool.total_bytes or 0) // _SPARE_SHARE, _SPARE_MOST) if pool.key == RAM else 0


def offered(pools: tuple[MemoryPool, ...], limit_bytes: int | None) -> tuple[MemoryPool, ...]:
    """The pools with the operator's limit for all slots together, which is one of RAM."""
    return tuple(replace(pool, limit_bytes=limit_bytes) if pool.key == RAM else pool for pool in pools)


def offer_bytes(pool: MemoryPool) -> int | None:
    """What slots may have of a pool together; None: nobody knows."""
    if pool.total_bytes is None:
        return pool.limit_bytes
    most = pool.total_bytes - spare_bytes(pool)
    return most if pool.limit_bytes is None else min(most, pool.limit_bytes)


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of each pool, by both figures; infinite where nobody tells."""

    by_claims: Amounts
    by_measure: Amounts

    def of(self, key: PoolKey) -> float:
        return min(self.by_claims.get(key, math.inf), self.by_measure.get(key, math.inf))


def pool_bytes(holding: Holding) -> int:
    """What it claims in the pool of its weights: what was promised to it, and what it took beyond that."""
    return max(holding.used_bytes or 0, holding.need.bytes)


def _settled(holding: Holding) -> bool:
    return holding.standing in (Standing.LOADED, Standing.LEAVING, Standing.STUCK)


def spread(ledger: Ledger, key: PoolKey, in_pool: float, in_ram: float) -> dict[PoolKey, float]:
    """An amount over the pools it is taken from: unified memory is RAM as well."""
    unified = any(pool.key == key and pool.unified for pool in ledger.pools)
    amounts = {key: in_pool}
    if key == RAM or unified or in_ram:
        amounts[RAM] = in_ram + (in_pool if key == RAM or unified else 0)
    return amounts


def claim(ledger: Ledger, holding: Holding) -> dict[PoolKey, float]:
    """What it claims in each pool."""
    host = max(holding.used_host_bytes or 0, holding.need.host_bytes)
    return spread(ledger, holding.need.pool, pool_bytes(holding), host)


def _visible(ledger: Ledger, holding: Holding) -> dict[PoolKey, float]:
    """What of its claim is allocated already, so that the measured figures contain it."""
    need = holding.need if _settled(holding) else NOTHING
    in_pool = need.bytes if holding.used_bytes is None else holding.used_bytes
    in_ram = need.host_bytes if holding.used_host_bytes is None else holding.used_host_bytes
    return spread(ledger, holding.need.pool, in_pool, in_ram)


def room_of(ledger: Ledger, others: Iterable[Holding], own: Holding | None) -> Room:
    """What `others` leave; what `own` has allocated counts as free, because it leaves before it is loaded again."""
    by_claims: dict[PoolKey, float] = {}
    by_measure: dict[PoolKey, float] = {}
    for pool in ledger.pools:
        if (offer := offer_bytes(pool)) is not None:
            by_claims[pool.key] = offer
        if pool.free_bytes is not None:
            by_measure[pool.key] = pool.free_bytes - spare_bytes(pool)
    for holding in others:
        seen = _visible(ledger, holding)
        for key, amount in claim(ledger, holding).items():
            by_claims[key] = by_claims.get(key, math.inf) - amount
            by_measure[key] = by_measure.get(key, math.inf) - (amount - seen.get(key, 0.0))
    if own is not None:
        for key, amount in _visible(ledger, own).items():
            by_measure[key] = by_measure.get(key, math.inf) + amount
    return Room(by_claims, by_measure)


def freed(ledger: Ledger, room: Room, gone: Iterable[Holding]) -> Room:
    """The room when these have left: nothing that they still had to allocate is kept for them either."""
    by_claims, by_measure = dict(room.by_claims), dict(room.by_measure)
    for holding in gone:
        for key, amount in claim(ledger, holding).items():
            by_claims[key] = by_claims.get(key, math.inf) + amount
            by_measure[key] = by_measure.get(key, math.inf) + amount
    return Room(by_claims, by_measure)


def short_of(wanted: Amounts, room: Room) -> dict[PoolKey, float]:
    """By how many bytes each pool that has too little is short; empty when all is well."""
    return {key: amount - room.of(key) for key, amount in wanted.items() if amount > room.of(key)}
