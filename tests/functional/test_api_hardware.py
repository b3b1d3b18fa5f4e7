"""The machine over the operator API: as it is, what would help, and what has changed."""

from pathlib import Path

from hal0.paths import Paths
from tests.functional.operator_app import operator
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB


def machine(paths: Paths) -> Path:
    return paths.state_dir / "machine"


async def test_the_machine_is_shown_and_its_changes_are_told(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, config={"engine": {"memory_limit": "64GiB"}}) as hal0:
        root = trees.strix_halo(machine(paths))
        status, view = await hal0.call("GET", "/api/hardware")
        assert status == 200
        assert view["host"]["label"] == "Strix Halo"
        assert [gpu["gfx"] for gpu in view["gpus"]] == ["gfx1151"]
        assert view["pools"][-1]["limit_bytes"] == 64 * GIB
        assert [it["device"] for it in view["runtimes"] if it["readiness"] == "ready"] == [
            "vulkan", "rocm", "npu", "cpu",
        ]  # fmt: skip
        _, probed = await hal0.call("POST", "/api/hardware/probe")
        assert (probed["hardware"]["gpus"], probed["changes"]) == (view["gpus"], [])
        (root / "dev/accel/accel0").unlink()
        _, again = await hal0.call("POST", "/api/hardware/probe")
        assert {it["key"] for it in again["changes"]} >= {"runtimes.npu.readiness", "npus.0.node"}


async def test_a_machine_that_shows_nothing_is_no_failure(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        status, view = await hal0.call("GET", "/api/hardware")
        assert (status, view["gpus"], view["npus"]) == (200, [], [])
        status, body = await hal0.call("POST", "/api/hardware/probe", {"deep": True})
        assert (status, body["error"]["param"]) == (400, "deep")
