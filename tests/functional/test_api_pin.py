"""Pinning: kept in the configuration, in force at once, without touching what runs; in every phase."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from hal0.paths import Paths
from hal0.vocab import Phase
from tests.fakes.engine import StalledEngine
from tests.fakes.program import Program
from tests.functional.operator_app import Operator, operator


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block, engine=StalledEngine()) as served:
        yield served


async def pinned(hal0: Operator, verb: str, slot: str = "primary") -> bool:
    status, view = await hal0.call("POST", f"/api/slots/{slot}/{verb}")
    assert status == 200
    assert (await hal0.call("GET", f"/api/slots/{slot}"))[1]["pinned"] is view["pinned"]
    return bool(view["pinned"])


async def test_it_is_in_the_file_and_in_force_and_nothing_is_restarted(hal0: Operator, paths: Paths) -> None:
    await hal0.call("POST", "/api/slots/primary/load?wait=true")
    [container] = hal0.engine.running
    assert await pinned(hal0, "pin")
    text = paths.config_file.read_text()
    assert text.startswith("# mine\n")
    assert "pinned = true" in text
    assert await pinned(hal0, "pin")  # so it is already
    assert paths.config_file.read_text() == text
    assert not await pinned(hal0, "unpin")
    assert "pinned = false" in paths.config_file.read_text()
    assert hal0.engine.running == [container]
    assert hal0.running.phase() is Phase.READY


async def test_a_slot_with_a_file_of_its_own_is_pinned_there(hal0: Operator, paths: Paths) -> None:
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "two"})
    assert await pinned(hal0, "pin", "coder")
    assert (paths.slots_config_dir / "coder.toml").read_text() == 'model = "two"\npinned = true\n'


async def test_a_pinned_slot_is_not_deleted(hal0: Operator, paths: Paths) -> None:
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "two", "pinned": True})
    await hal0.call("POST", "/api/slots/coder/load?wait=true")
    status, body = await hal0.call("DELETE", "/api/slots/coder")
    assert (status, body["error"]["code"]) == (409, "slot.pinned")
    assert body["error"]["hint"] == "hal0ctl slot unpin coder"
    assert hal0.running.phase("coder") is Phase.READY
    assert (paths.slots_config_dir / "coder.toml").exists()
    assert not await pinned(hal0, "unpin", "coder")
    assert (await hal0.call("DELETE", "/api/slots/coder"))[0] == 200


async def test_it_is_heard_of(hal0: Operator) -> None:
    async with hal0.api.get("/api/events") as events:
        await hal0.call("POST", "/api/slots/primary/pin")
        told = False
        while not told:
            event = await asyncio.wait_for(events.content.readuntil(b"\n\n"), 5)
            data = json.loads(event.partition(b"data: ")[2] or b"{}")
            told = data.get("id") == "primary" and data["value"]["pinned"]


async def test_every_phase_can_be_pinned_and_goes_on(hal0: Operator) -> None:
    engine = hal0.engine
    assert isinstance(engine, StalledEngine)
    seen = []

    async def both(phase: Phase) -> None:
        await hal0.running.reaches(phase, within_s=10)
        assert (await pinned(hal0, "pin"), await pinned(hal0, "unpin")) == (True, False)
        await hal0.running.reaches(phase, within_s=10)  # what failed is tried again, as after every change
        seen.append(phase)

    await both(Phase.OFFLINE)
    engine.stall("create")
    engine.plan(Program(ready_after_s=1.0))
    await hal0.call("POST", "/api/slots/primary/load")
    await both(Phase.STARTING)
    engine.release()
    await both(Phase.WARMING)
    await both(Phase.READY)
    engine.stall("stop")
    await hal0.call("POST", "/api/slots/primary/unload")
    await both(Phase.UNLOADING)
    engine.release()
    await hal0.running.reaches(Phase.OFFLINE, within_s=10)
    hal0.running.world.ram_bytes = 2**20
    await hal0.call("POST", "/api/slots/primary/load?wait=true")
    await both(Phase.ERROR)
    assert seen == [Phase.OFFLINE, Phase.STARTING, Phase.WARMING, Phase.READY, Phase.UNLOADING, Phase.ERROR]


async def test_an_unknown_slot_and_a_wrong_body_are_refused(hal0: Operator) -> None:
    for verb in ("pin", "unpin"):
        status, body = await hal0.call("POST", f"/api/slots/primery/{verb}")
        assert (status, body["error"]["code"]) == (404, "slot.not_found")
        status, body = await hal0.call("POST", f"/api/slots/primary/{verb}", {"hard": True})
        assert (status, body["error"]["code"]) == (400, "request.invalid")
        status, body = await hal0.over_tcp("POST", f"/api/slots/primary/{verb}")
        assert (status, body["error"]["code"]) == (401, "auth.required")
