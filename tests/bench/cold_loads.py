"""How long each engine takes to load, and for what: one after the other, until all of the matrix is loaded at once."""

import asyncio
from typing import Final

from tests.bench.rows import Row, told
from tests.conftest import SOAK
from tests.podman.engines.world import IMG, SEATS, World, built_world, seconds
from tests.podman.service import running_podman

SLOTS: Final = ("primary", "embed", "embed-rerank", "stt", "tts", "eyes", "writer")


def cold_load_rows() -> list[Row]:
    """The times are hal0's own record of each load. ComfyUI comes along with HAL0_SOAK=1: its image takes minutes."""
    seats = [seat for seat in SEATS if seat.slot in SLOTS] + ([IMG] if SOAK else [])
    with running_podman() as podman, built_world(podman, seats) as world:
        return asyncio.run(_loaded(world))


async def _loaded(world: World) -> list[Row]:
    await world.load(at_once=False)
    async with world.daemon.operator() as operator:
        views = (await operator.get("/api/slots"))["items"]
    loaded = {view["name"]: view for view in views if view["state"] == "ready"}
    return [told(f"cold_load_{seat.slot}", seconds(loaded[seat.slot]["last_load"]), "s") for seat in world.seats]
