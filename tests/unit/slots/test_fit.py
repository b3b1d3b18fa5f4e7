"""Would it fit: every verdict on one GPU and on shared memory, with the figures that it rests on, in words."""

from dataclasses import replace

import pytest

from hal0.hardware.pools import RAM
from hal0.slots.fit import fit_of, words
from hal0.slots.ledger import Holding, Ledger, Standing
from hal0.vocab import SlotName
from hal0.wire.fit import FitVerdict
from tests.unit.slots.test_budget import BUSY, CHAT, CODER, GB, GTT, LEAVING, NOW, PINNED, ledger, need, pool

NEW = SlotName("new")


@pytest.mark.parametrize(
    ("size", "held", "verdict", "said", "short"),
    [
        (24, (), FitVerdict.FITS, "fits now", 0),
        (14, (CHAT,), FitVerdict.FITS, "fits now", 0),
        (16, (LEAVING,), FitVerdict.SOON, "fits once chat has left", 2),
        (8, (CHAT, CODER), FitVerdict.IF_UNLOADED, "fits if coder is unloaded, which its load does by itself", 2),
        (24, (CHAT, CODER), FitVerdict.IF_UNLOADED,
         "fits if coder and chat are unloaded, which its load does by itself", 18),
        (16, (BUSY,), FitVerdict.BUSY, "does not fit while chat works", 2),
        (16, (PINNED,), FitVerdict.TOO_LARGE, "too large by 2.0 GB", 2),
        (36.9, (), FitVerdict.TOO_LARGE, "too large by 12.9 GB", 12.9),
    ],
)  # fmt: skip
def test_a_verdict_and_its_words(
    size: float, held: tuple[Holding, ...], verdict: FitVerdict, said: str, short: float
) -> None:
    fit = fit_of(NEW, need(size), ledger(*held), NOW)
    assert (fit.verdict, words(fit), fit.short_bytes) == (verdict, said, round(short * GB))
    assert fit.fits is (verdict in (FitVerdict.FITS, FitVerdict.SOON, FitVerdict.IF_UNLOADED))
    assert (fit.need_bytes, fit.total_bytes) == (round(size * GB), 24 * GB)
    assert fit.free_bytes == 24 * GB - sum(holding.need.bytes for holding in held)


def test_its_own_container_leaves_first() -> None:
    fit = fit_of(SlotName("chat"), need(24), ledger(CHAT), NOW)
    assert (fit.verdict, fit.free_bytes) == (FitVerdict.FITS, 24 * GB)


def test_the_scarcest_pool_is_told() -> None:
    """What a GPU's engine keeps in RAM may be what is missing."""
    small = Ledger((pool(need(1).pool, 24), pool(RAM, 4)))
    fit = fit_of(NEW, need(10, host=6), small, NOW)
    assert (fit.verdict, fit.pool, fit.need_bytes) == (FitVerdict.TOO_LARGE, RAM, 6 * GB)


def test_shared_memory_is_taken_from_both() -> None:
    both = Ledger((pool(GTT, 96, unified=True), pool(RAM, 128)))
    fit = fit_of(NEW, need(90, GTT, host=2), both, NOW)
    assert (fit.verdict, fit.pool, fit.need_bytes) == (FitVerdict.FITS, GTT, 90 * GB)


def test_where_nobody_tells_it_fits() -> None:
    unknown = Ledger((replace(pool(need(1).pool, 1), total_bytes=None, free_bytes=None),))
    fit = fit_of(NEW, need(10), unknown, NOW)
    assert (fit.verdict, fit.free_bytes, fit.total_bytes, fit.short_bytes) == (FitVerdict.FITS, None, None, 0)


def test_one_that_does_not_go_is_in_the_way_and_counts() -> None:
    stuck = replace(CHAT, standing=Standing.STUCK)
    fit = fit_of(NEW, need(20), ledger(stuck, free=14), NOW)
    assert (fit.verdict, fit.free_bytes) == (FitVerdict.BUSY, 14 * GB)
