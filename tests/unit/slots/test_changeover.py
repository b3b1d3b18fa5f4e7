"""Room on order: what fits together, and one slot making way for another."""

import asyncio
from unittest.mock import Mock

import pytest

from hal0.errors import Hal0Error
from hal0.slots.changeover import make_way
from hal0.vocab import By, Phase, SlotName, Want
from tests.fakes.world import World
from tests.vloop import virtual_time

PRIMARY, EMBED = SlotName("primary"), SlotName("embed")
EMBEDDER = {"model": "two"}


@virtual_time
async def test_what_fits_together_rests_on_needs_and_the_machine(world: World) -> None:
    async with world.hal0(embed=EMBEDDER) as hal0:
        both = frozenset({PRIMARY, EMBED})
        assert hal0.supervisor.fits_together(both)
        world.ram_bytes = 300 * 2**20  # each takes some 150 MiB
        await hal0.tools.steward.look()
        assert not hal0.supervisor.fits_together(both)
        assert hal0.supervisor.fits_together(frozenset({PRIMARY}))
        assert hal0.supervisor.fits_together(frozenset({PRIMARY, SlotName("stt"), SlotName("nobody")}))


@virtual_time
async def test_a_switch_is_ordered_when_the_one_is_closed_and_the_other_wanted(world: World) -> None:
    async with world.hal0(embed=EMBEDDER) as hal0:
        await hal0.load("embed")
        await hal0.supervisor.switch(PRIMARY, [EMBED])
        assert not hal0.supervisor.slot("embed").snapshot().routable
        wish, past = hal0.primary.life.desired, hal0.supervisor.slot("embed").life.desired
        assert [(d.want, d.by) for d in (wish, past)] == [(Want.LOADED, By.REQUEST), (Want.UNLOADED, By.EVICTED)]
        await hal0.reaches(Phase.READY)


@virtual_time
async def test_who_answers_does_not_make_way(world: World) -> None:
    async with world.hal0(embed=EMBEDDER) as hal0:
        await hal0.load("embed")
        embed = hal0.supervisor.slot("embed")
        with embed.serving():
            await hal0.supervisor.switch(PRIMARY, [EMBED])
            await hal0.reaches(Phase.READY)
            assert embed.snapshot().routable


@virtual_time
async def test_from_the_wish_to_leave_on_nobody_comes_in(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        await make_way(hal0.primary, By.EVICTED)
        assert not hal0.primary.snapshot().routable
        with pytest.raises(Hal0Error, match="cannot take a request"):
            hal0.primary.serving()
        await hal0.reaches(Phase.OFFLINE)


@virtual_time
async def test_the_ledger_is_made_once_between_two_changes_however_many_sets_are_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.hal0(embed=EMBEDDER) as hal0:
        steward, sets = hal0.tools.steward, [frozenset({PRIMARY}), frozenset({EMBED}), frozenset({PRIMARY, EMBED})]
        await hal0.load("embed")
        world.ram_bytes = 300 * 2**20
        await steward.look()
        ledger = Mock(wraps=steward._ledger)
        monkeypatch.setattr(steward, "_ledger", ledger)
        assert [hal0.supervisor.fits_together(slots) for slots in sets * 10] == [True, True, False] * 10
        assert ledger.call_count == 1
        await hal0.supervisor.apply(world.config(embed={**EMBEDDER, "pinned": True}))
        await asyncio.sleep(0.1)
        assert [hal0.supervisor.fits_together(slots) for slots in sets] == [False, True, False], "it stays now"
        assert ledger.call_count == 2
