"""The machine at a glance: what `status` and `ps` say of memory and GPUs."""

import time
from typing import Any

from hal0.wire.system import GpuView
from tests.fakes.api_server import ApiServer
from tests.unit.cli.conftest import Run


def test_status_says_who_has_a_gpu(api: ApiServer, hal0ctl: Run) -> None:
    gpu = GpuView(images="img", mode="images", comes_back=["primary"], pinned=False, until=time.time() + 1800.5)

    def told(**changes: Any) -> str:
        view = gpu.model_copy(update=changes).model_dump(mode="json")
        api.replies["GET", "/api/status"] = (200, api.status() | {"gpus": [view]})
        return hal0ctl("status").out

    until = "images: img has it for 30 min without new ones; primary comes back then (hal0ctl slot unload img)"
    assert f"gpu       {until}" in told()
    assert "images: img (pinned) has it; primary" in told(pinned=True, until=None)
    assert "\ngpu " not in told(mode="llm")
