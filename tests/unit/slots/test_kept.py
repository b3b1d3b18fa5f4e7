"""Work that goes on for as long as hal0 does."""

import asyncio

from hal0.slots.kept import Kept


async def test_what_begins_while_everything_ends_is_ended_too() -> None:
    kept, late = Kept(), asyncio.Event()

    async def for_ever() -> None:
        await asyncio.Event().wait()

    async def slow_to_end() -> None:
        try:
            await for_ever()
        finally:
            kept.keep("late", for_ever)
            late.set()

    kept.keep("slow", slow_to_end)
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await kept.aclose()
    assert late.is_set()
    assert "late" not in kept
