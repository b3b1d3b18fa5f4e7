"""Admission and eviction: tables on recorded shapes of machines, and random lives that never oversell memory."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.hardware.pools import RAM, MemoryPool, PoolKey, PoolKind
from hal0.slots.budget import Evict, Fits, Refuse, Verdict, Wait, admit, eviction_order, fits_together, memory_back
from hal0.slots.ledger import Holding, Ledger, Standing, claim, spare_bytes
from hal0.slots.need import Need, Term
from hal0.vocab import SlotName

GB = 1_000_000_000
NOW = 1000.0
VRAM, GTT = PoolKey(PoolKind.VRAM, 0), PoolKey(PoolKind.GTT, 0)


def pool(key: PoolKey, total: float | None, free: float | None = None, *, unified: bool = False) -> MemoryPool:
    free = total if free is None else free
    return MemoryPool(
        kind=key.kind,
        gpu_index=key.gpu_index,
        total_bytes=None if total is None else round(total * GB),
        free_bytes=None if free is None else round(free * GB),
        unified=unified,
    )


def need(size: float, key: PoolKey = VRAM, host: float = 0.0) -> Need:
    return Need(pool=key, bytes=round(size * GB), host_bytes=int(host * GB), terms=(Term("weights", round(size * GB)),))


def holding(slot: str, size: float, standing: Standing = Standing.LOADED, key: PoolKey = VRAM, **more: Any) -> Holding:
    return Holding(slot=SlotName(slot), need=need(size, key), standing=standing, **more)


def ledger(*holdings: Holding, total: float = 24, free: float | None = None) -> Ledger:
    if free is None:
        free = total - sum(h.need.bytes for h in holdings if h.standing in (Standing.LOADED, Standing.LEAVING)) / GB
    return Ledger((pool(VRAM, total, free), pool(RAM, 64)), holdings)


def ask(size: float, book: Ledger, slot: str = "new", **more: Any) -> Verdict:
    return admit(SlotName(slot), need(size), book, NOW, **more)


CHAT, CODER = holding("chat", 10, last_used=NOW - 5), holding("coder", 8, last_used=NOW - 500)
BUSY, PINNED = replace(CHAT, in_flight=1), replace(CHAT, pinned=True)
LOADING, LEAVING = replace(CHAT, standing=Standing.LOADING), replace(CHAT, standing=Standing.LEAVING)

VERDICTS = {
    "an empty machine takes what fits": (ask(24, ledger()), Fits()),
    "beside another": (ask(14, ledger(CHAT)), Fits()),
    "the one idle longest leaves": (ask(8, ledger(CHAT, CODER)), Evict((SlotName("coder"),))),
    "no more leave than must": (ask(15, ledger(CHAT, CODER)), Evict((SlotName("chat"),))),
    "all leave if they must, the idlest first": (
        ask(24, ledger(CHAT, CODER)),
        Evict((SlotName("coder"), SlotName("chat"))),
    ),
    "what leaves already is waited for": (ask(20, ledger(LEAVING)), Wait((SlotName("chat"),))),
    "and more leave if that is not enough": (ask(20, ledger(LEAVING, CODER)), Evict((SlotName("coder"),))),
    "its own container leaves first": (ask(24, ledger(CHAT), slot="chat"), Fits()),
    "unless both are to run": (ask(14, ledger(CHAT), slot="chat", beside=True), Fits()),
    "a load that has allocated nothing yet is counted": (
        ask(15, ledger(LOADING, CODER, free=24)),
        None,
    ),
    "what was promised counts, not what is used of it": (
        ask(15, ledger(replace(CHAT, used_bytes=0), free=24)),
        Evict((SlotName("chat"),)),
    ),
    "and what is used beyond it": (ask(14, ledger(replace(BUSY, used_bytes=11 * GB), free=13)), None),
    "memory that others took is not there": (ask(14, ledger(CODER, free=4)), None),
    "mapped files that count as available are not free": (ask(15, ledger(CHAT, free=24)), Evict((SlotName("chat"),))),
}


@pytest.mark.parametrize(("verdict", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_who_fits_and_who_leaves(verdict: Verdict, expected: Verdict | None) -> None:
    if expected is None:
        assert isinstance(verdict, Refuse)
    else:
        assert verdict == expected


@pytest.mark.parametrize(
    ("book", "blocked"),
    [
        (ledger(BUSY), ("chat",)),
        (ledger(LOADING), ("chat",)),
        (ledger(PINNED), ()),  # it never leaves
        (ledger(replace(PINNED, in_flight=1)), ()),
        (ledger(BUSY, total=18, free=8), ()),  # too large for this machine, whoever leaves
    ],
)
def test_a_refusal_says_whether_waiting_helps(book: Ledger, blocked: tuple[str, ...]) -> None:
    verdict = ask(20, book)
    assert isinstance(verdict, Refuse)
    assert verdict.blocked_by == blocked


def test_a_refusal_shows_its_arithmetic() -> None:
    coder = holding("coder", 3.1, Standing.LOADING, key=GTT)
    book = Ledger((pool(GTT, 24, unified=True), pool(RAM, 64)), (coder,))
    verdict = admit(SlotName("primary"), need(33.8, GTT, host=1.0), book, NOW)
    assert isinstance(verdict, Refuse)
    error = verdict.error
    assert (error.code, error.status) == ("slot.memory_budget", 507)
    assert error.message == "cannot load primary: it needs 33.8 GB of GTT of GPU 0, 20.9 GB is free while coder loads"
    assert error.details == {
        "slot": "primary",
        "pool": "GTT of GPU 0",
        "need_bytes": 33_800_000_000,
        "free_bytes": 20_900_000_000,
        "short_bytes": 12_900_000_000,
        "total_bytes": 24 * GB,
        "blocked_by": [],
        "terms": [{"name": "weights", "bytes": 33_800_000_000}],
        "holders": [{"slot": "coder", "bytes": 3_100_000_000, "state": "loading", "evictable": False}],
    }


def test_a_refusal_on_an_empty_machine_names_its_size() -> None:
    verdict = ask(30, ledger())
    assert isinstance(verdict, Refuse)
    assert verdict.error.message == "cannot load new: it needs 30.0 GB of VRAM of GPU 0, 24.0 GB is free of 24.0 GB"


def test_unified_memory_is_taken_once_from_both() -> None:
    pools = (pool(GTT, 110, 100, unified=True), pool(RAM, 125, 100))
    on_cpu = holding("embed", 30, key=RAM, used_bytes=0)
    book = Ledger(pools, (replace(on_cpu, standing=Standing.LOADING, used_bytes=None),))
    assert isinstance(admit(SlotName("a"), need(69, GTT), book, NOW), Refuse)  # 100 - 30 - 1.07 to spare
    assert admit(SlotName("a"), need(68, GTT), book, NOW) == Fits()


def test_a_card_and_ram_are_apart_but_host_memory_counts() -> None:
    book = Ledger((pool(VRAM, 24), pool(RAM, 8)), ())
    assert admit(SlotName("a"), need(20, VRAM, host=7.0), book, NOW) == Fits()
    assert isinstance(admit(SlotName("a"), need(20, VRAM, host=7.9), book, NOW), Refuse)


def test_where_nobody_tells_nothing_is_refused() -> None:
    book = Ledger((pool(VRAM, None), pool(RAM, 64)), (CHAT,))
    assert ask(500, book) == Fits()


def test_images_beside_a_chat_model_are_legal_when_they_fit() -> None:
    chat = holding("primary", 20, key=GTT, in_flight=3)
    book = Ledger((pool(GTT, 110, 85, unified=True), pool(RAM, 125, 80)), (chat,))
    assert admit(SlotName("img"), need(9, GTT), book, NOW) == Fits()


def test_low_priority_leaves_first_then_idle_time_over_reload_cost() -> None:
    cheap = holding("cheap", 1, last_used=NOW - 60, reload_s=2)  # 30
    dear = holding("dear", 1, last_used=NOW - 600, reload_s=60)  # 10
    low = holding("low", 1, last_used=NOW, priority=10)
    assert [h.slot for h in eviction_order([dear, cheap, low], NOW)] == ["low", "cheap", "dear"]


def test_only_slots_in_the_pool_that_is_short_leave() -> None:
    elsewhere = holding("elsewhere", 5, key=RAM, last_used=0)
    assert ask(20, ledger(elsewhere, CHAT, free=14)) == Evict((SlotName("chat"),))


@pytest.mark.parametrize(("a", "b", "together"), [(10, 14, True), (12, 13, False), (25, 1, False)])
def test_slots_that_fit_together(a: float, b: float, together: bool) -> None:
    needs = {SlotName("chat"): need(a), SlotName("coder"): need(b)}
    book = ledger(CHAT, CODER)
    assert fits_together(needs, book) is together
    assert fits_together(dict(reversed(needs.items())), book) is together


def test_a_pinned_slot_and_other_programs_narrow_what_fits_together() -> None:
    needs = {SlotName("a"): need(8), SlotName("b"): need(8)}
    assert fits_together(needs, ledger(CODER))
    assert not fits_together(needs, ledger(PINNED))
    assert not fits_together(needs, ledger(CODER, free=5))  # 11 GB are not ours


def test_memory_is_back_when_most_of_it_is() -> None:
    before, after = [pool(VRAM, 24, 4)], [pool(VRAM, 24, 13.5)]
    assert memory_back(CHAT, before, after)
    assert not memory_back(CHAT, before, before)
    assert not memory_back(replace(CHAT, used_bytes=12 * 10**9), before, after), (
        "what it really had, not what was promised"
    )
    assert memory_back(replace(CHAT, used_bytes=2 * 10**9), before, [pool(VRAM, 24, 6)])
    assert memory_back(holding("cpu", 3, key=RAM), before, before)
    assert memory_back(CHAT, [pool(VRAM, 24)], [pool(VRAM, None)])


# -- random lives -----------------------------------------------------------------------------------------------------

SLOTS = [SlotName(name) for name in "abcde"]
OPS = st.tuples(
    st.sampled_from(["ask", "allocate", "loaded", "serve", "rest", "pin", "stopped", "gone"]),
    st.sampled_from(SLOTS),
    st.integers(1, 30),
)


def claimed(ledger: Ledger, *standings: Standing) -> dict[PoolKey, int]:
    """Bytes that slots of these standings claim in each pool."""
    sums = {pool.key: 0 for pool in ledger.pools}
    for holding in ledger.holdings:
        if holding.standing in standings:
            for key, amount in claim(ledger, holding).items():
                sums[key] += int(amount)
    return sums


class World:
    """A machine whose memory is really taken: what slots have allocated, and what the ledger believes of it.

    `mapped`: as with mapped files, the kernel calls available what slots have taken.
    """

    def __init__(self, *, unified: bool, mapped: bool) -> None:
        self.mapped = mapped
        self.key = GTT if unified else VRAM
        self.unified = unified
        self.book = Ledger((), ())
        self.taken: dict[SlotName, int] = {}
        self.measure()

    def measure(self) -> None:
        used = 0 if self.mapped else sum(self.taken.values()) / GB
        ram = pool(RAM, 40, 40 - (used if self.unified else 0))
        self.book = replace(self.book, pools=(pool(self.key, 32, 32 - used, unified=self.unified), ram))

    def of(self, slot: SlotName) -> Holding | None:
        return next((h for h in self.book.holdings if h.slot == slot), None)

    def put(self, old: Holding, **change: Any) -> None:
        """In the place of the slot's old one."""
        self.drop(old.slot)
        self.book = replace(self.book, holdings=(*self.book.holdings, replace(old, **change)))

    def drop(self, slot: SlotName) -> None:
        self.book = replace(self.book, holdings=tuple(h for h in self.book.holdings if h.slot != slot))

    def step(self, op: str, slot: SlotName, size: int) -> None:
        held = self.of(slot)
        match op, held.standing if held else None:
            case "ask", None | Standing.RESERVED:
                self.ask(slot, held.need if held else need(size, self.key, host=0.25))
            case "allocate", Standing.LOADING if held:
                self.taken[slot] = held.need.bytes // 2
                self.put(held, used_bytes=self.taken[slot])
            case "loaded", Standing.LOADING if held:
                self.taken[slot] = held.need.bytes * 9 // 10  # estimates are on the safe side
                self.put(held, standing=Standing.LOADED, used_bytes=self.taken[slot])
            case "serve", Standing.LOADED if held:
                self.put(held, in_flight=held.in_flight + 1)
            case "rest", Standing.LOADED if held:
                self.put(held, in_flight=0, last_used=float(size))
            case "pin", Standing.LOADED if held:
                self.put(held, pinned=not held.pinned)
            case "stopped", Standing.LEAVING:
                self.taken.pop(slot, None)
            case "gone", Standing.LEAVING if slot not in self.taken:
                self.drop(slot)
            case _:
                return
        self.measure()

    def ask(self, slot: SlotName, wanted: Need) -> None:
        mine = Holding(slot=slot, need=wanted, standing=Standing.RESERVED)
        match admit(slot, wanted, self.book, 100.0):
            case Fits():
                self.put(mine, standing=Standing.LOADING)
            case Wait(leaving):
                assert leaving
                self.put(mine)
            case Evict(victims):
                assert victims
                for name in victims:
                    victim = self.of(name)
                    assert victim is not None
                    assert victim.evictable
                    self.put(victim, standing=Standing.LEAVING)
                self.put(mine)
            case Refuse(error):
                assert error.details["short_bytes"] > 0
                self.drop(slot)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.booleans(), st.lists(OPS, min_size=30, max_size=60))
def test_memory_is_never_oversold(unified: bool, mapped: bool, ops: list[tuple[str, SlotName, int]]) -> None:
    world = World(unified=unified, mapped=mapped)
    for op in ops:
        world.step(*op)
        running = claimed(world.book, Standing.LOADING, Standing.LOADED, Standing.LEAVING)
        promised = claimed(world.book, Standing.RESERVED, Standing.LOADING, Standing.LOADED)
        for found in world.book.pools:
            assert found.total_bytes is not None
            assert found.free_bytes is not None
            assert found.free_bytes >= 0
            assert running[found.key] <= found.total_bytes - spare_bytes(found)
            assert promised[found.key] <= found.total_bytes - spare_bytes(found)
