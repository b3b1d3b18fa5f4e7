"""Would a model fit into a slot, and what would have to leave for it: admission asked beforehand, in words. Pure."""

import math
from dataclasses import dataclass

from hal0.hardware.pools import PoolKey
from hal0.slots.budget import Evict, Refuse, Wait, admit
from hal0.slots.ledger import Holding, Ledger, Standing, offer_bytes, room_of, short_of, spread
from hal0.slots.need import Need
from hal0.vocab import SlotName
from hal0.wire.fit import FitVerdict as Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """`slots` are those that leave, or are in the way. `free_bytes` and `total_bytes` are of `pool`, the scarcest.

    `need_bytes` is what is needed of that pool; `short_bytes` what is missing in it now. None: nobody tells.
    """

    verdict: Verdict
    need: Need
    pool: PoolKey
    need_bytes: int
    free_bytes: int | None
    total_bytes: int | None
    short_bytes: int
    slots: tuple[SlotName, ...] = ()

    @property
    def fits(self) -> bool:
        """A load would go through by itself."""
        return self.verdict in (Verdict.FITS, Verdict.SOON, Verdict.IF_UNLOADED)


def fit_of(slot: SlotName, need: Need, ledger: Ledger, now: float) -> Fit:
    """For `slot`, whose own container leaves first."""
    verdict, slots = _verdict(slot, need, ledger, now)
    own = next((h for h in ledger.holdings if h.slot == slot and h.standing is not Standing.LEAVING), None)
    room = room_of(ledger, _others(ledger, own), own)
    wanted = spread(ledger, need.pool, need.bytes, need.host_bytes)
    scarcest = min(wanted, key=lambda key: room.of(key) - wanted[key])
    free, pool = room.of(scarcest), next(it for it in ledger.pools if it.key == scarcest)
    return Fit(
        verdict=verdict,
        need=need,
        pool=scarcest,
        need_bytes=int(wanted[scarcest]),
        free_bytes=None if math.isinf(free) else max(int(free), 0),
        total_bytes=offer_bytes(pool),
        short_bytes=math.ceil(short_of(wanted, room).get(scarcest, 0)),
        slots=slots,
    )


def words(fit: Fit) -> str:
    """The verdict as one sentence."""
    names = " and ".join(dict.fromkeys(fit.slots))
    many = len(set(fit.slots)) > 1
    match fit.verdict:
        case Verdict.FITS:
            return "fits now"
        case Verdict.SOON:
            return f"fits once {names} {'have' if many else 'has'} left"
        case Verdict.IF_UNLOADED:
            return f"fits if {names} {'are' if many else 'is'} unloaded, which its load does by itself"
        case Verdict.BUSY:
            return f"does not fit while {names} {'work' if many else 'works'}"
        case Verdict.TOO_LARGE:
            return f"too large by {fit.short_bytes / 1e9:.1f} GB"


def _verdict(slot: SlotName, need: Need, ledger: Ledger, now: float) -> tuple[Verdict, tuple[SlotName, ...]]:
    match admit(slot, need, ledger, now):
        case Wait(leaving):
            return Verdict.SOON, leaving
        case Evict(victims):
            return Verdict.IF_UNLOADED, victims
        case Refuse(_, blocked_by):
            return (Verdict.BUSY, blocked_by) if blocked_by else (Verdict.TOO_LARGE, ())
        case _:
            return Verdict.FITS, ()


def _others(ledger: Ledger, own: Holding | None) -> list[Holding]:
    return [holding for holding in ledger.holdings if holding is not own]
