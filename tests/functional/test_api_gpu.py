"""Images have the GPU: what the operator sees, and what a client of a language model is told, over HTTP."""

from typing import Any, Final

from hal0.paths import Paths
from hal0.vocab import Phase, SlotName
from tests.functional.operator_app import Operator, operator
from tests.vloop import until

GPU: Final = {"device": "vulkan"}
TABLES: Final[dict[str, Any]] = {
    "primary": {"model": "one"} | GPU,
    "img": {"model": "two", "provider": "comfyui"} | GPU,
}


async def images(hal0: Operator) -> None:
    """The GPU holds one of the two, and images have it."""
    running = hal0.running
    running.world.gtt_bytes = 2**40
    await running.supervisor.apply(running.world.config(**TABLES))
    await running.tools.steward.look()
    assert (await running.load()).error is None
    memory = running.primary.life.facts.admitted
    assert memory is not None
    running.world.gtt_bytes = memory.bytes * 3 // 2
    assert (await running.load("img")).error is None


async def test_the_mode_is_shown_and_models_get_503_until_it_is_over(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        assert (await hal0.call("GET", "/api/status"))[1]["gpus"] == []
        await images(hal0)
        await hal0.running.tools.steward.look()
        [gpu] = (await hal0.call("GET", "/api/status"))[1]["gpus"]
        assert (gpu["images"], gpu["mode"], gpu["comes_back"], gpu["pinned"]) == ("img", "images", ["primary"], False)
        assert gpu["until"] is not None
        _, slot = await hal0.call("GET", "/api/slots/primary")
        assert (slot["message"], slot["desired"]["by"]) == (
            "made way for images; comes back when they are done",
            "arbiter",
        )
        ask = {"model": "primary", "messages": []}
        async with hal0.tcp.post("/v1/chat/completions", json=ask) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (503, "gpu.image_mode")
            assert answer.headers["Retry-After"] == "60"
            assert 3000 < error["details"]["retry_after_s"] <= 3600
        assert hal0.running.phase() is Phase.OFFLINE  # nothing was tried
        await hal0.call("POST", "/api/slots/img/unload?wait=true")
        await until(lambda: hal0.running.supervisor.barred(SlotName("primary")) is None, within_s=10)
        await hal0.running.reaches(Phase.READY, within_s=10)
