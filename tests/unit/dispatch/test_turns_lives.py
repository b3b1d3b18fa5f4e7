"""Random lives at the real gate on virtual time: everyone is answered or refused in time, and nothing is left."""

import asyncio
import random
from collections.abc import Callable

from hal0.vocab import Phase, SlotName
from tests.unit.dispatch.house import Answer, House, house
from tests.vloop import virtual

ASK_S, BREAKS = (0.01, 0.5, 30.0), ("leave", "crash", "unload", "pin", "fail", "load")


def happen(dice: random.Random, h: House, what: str, name: str, sent: list["asyncio.Task[Answer]"]) -> None:
    ready = h[name].snapshot().phase is Phase.READY
    match what:
        case "leave" if sent:
            dice.choice(sent).cancel()
        case "crash" if ready:
            h.crash(name)
        case "unload" if ready and not h[name].in_flight:
            h.unload(name)
        case "pin":
            h[name].become(pinned=not h[name].snapshot().pinned)
        case "fail":
            h.failing ^= {name}
        case "load":
            h[name].request_load()
        case _:
            pass


async def life(seed: int) -> None:
    """Requests, operators and faults in any order; everyone is answered or refused in time, and nothing is left."""
    dice = random.Random(seed)
    names, limit, hold_s = ("a", "b", "c", "d"), dice.choice((1, 2, 3)), dice.choice((0.0, 5.0, 60.0))
    h = house(*names, fits=lambda slots: len(slots) <= limit, max_wait_s=dice.choice((1.0, 10.0, 30.0)))
    for name in names:
        h[name].become(max_inflight=dice.choice((None, 1, 3)), queue_limit=8, pinned=dice.random() < 0.1)
    sent: list[asyncio.Task[Answer]] = []
    for _ in range(dice.randint(5, 60)):
        await asyncio.sleep(dice.choice((0.0, 0.01, 0.5, 2.0, 20.0)) * dice.random())
        if dice.random() < 0.6:
            name, takes_s, key = dice.choice(names), dice.choice(ASK_S), dice.choice((None, "x", "y"))
            sent += h.send(name, 0.0, takes_s=takes_s, key=key, hold_s=hold_s, patience_s=hold_s)
        else:
            happen(dice, h, dice.choice(BREAKS), dice.choice(names), sent)
    for answer in await asyncio.gather(*sent, return_exceptions=True):
        assert isinstance(answer, Answer | asyncio.CancelledError), answer
        assert isinstance(answer, asyncio.CancelledError) or answer.waited_s <= hold_s + 0.01
    assert [slot.in_flight for slot in h.all()] == [0] * len(names)
    assert [h.gate.waiting(SlotName(name)) for name in names] == [0] * len(names)
    await asyncio.sleep(300.0)  # wishes of those who were sent away come true or are given up


def test_whatever_happens_everyone_is_answered_in_time(soak_scale: Callable[[int, int], int]) -> None:
    for seed in range(soak_scale(300, 10_000)):
        try:
            virtual(life(seed))
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
