"""The machine at a glance: what `status` and `ps` say of memory and GPUs."""

import time
from typing import Any

from hal0.vocab import SlotState
from hal0.wire.slots import LoadView, MemoryView, TermView
from hal0.wire.system import GpuView
from tests.fakes.api_server import ApiServer
from tests.fakes.api_views import slot_view
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


def test_show_says_how_long_the_last_load_took_and_for_what(api: ApiServer, hal0ctl: Run) -> None:
    load = LoadView(model="m", at=1.0, create_s=0.21, start_s=0.3, load_s=12.6, ready_s=0.0, total_s=13.11)
    api.slots = {"primary": slot_view("primary", SlotState.READY, last_load=load)}
    out = hal0ctl("slot", "show", "primary").out
    assert "loaded in  13 s (create 0.2 s, start 0.3 s, load 12 s, ready 0.0 s)\n" in out
    older = load.model_copy(update={"create_s": None, "start_s": None, "load_s": None, "ready_s": None})
    api.slots = {"primary": slot_view("primary", SlotState.READY, last_load=older)}
    assert "loaded in  13 s\n" in hal0ctl("slot", "show", "primary").out


def test_ps_shows_what_is_taken_and_in_wide_what_was_predicted(api: ApiServer, hal0ctl: Run) -> None:
    memory = MemoryView(
        need_bytes=21_900_000_000, pool="RAM", terms=[], predicted_bytes=20_000_000_000, actual_bytes=None
    )
    api.slots = {"primary": slot_view("primary", SlotState.READY, memory=memory)}
    assert " ~21.9 GB " in hal0ctl("ps").out
    measured = memory.model_copy(update={"actual_bytes": 21_400_000_000})
    api.slots = {"primary": slot_view("primary", SlotState.READY, memory=measured)}
    assert " 21.4 GB " in hal0ctl("ps").out
    assert "20.0 GB" in hal0ctl("ps", "-o", "wide").out
    places = [TermView(name="GTT of GPU 0", bytes=21_400_000_000), TermView(name="RAM", bytes=600_000_000)]
    on_gpu = measured.model_copy(update={"pool": "GTT of GPU 0", "places": places})
    api.slots = {"primary": slot_view("primary", SlotState.READY, memory=on_gpu)}
    assert " 22.0 GB " in hal0ctl("ps").out
    assert "21.40 GB of GTT of GPU 0, 0.60 GB of RAM taken" in hal0ctl("slot", "show", "primary").out
    api.slots = {"primary": slot_view("primary", SlotState.READY, memory=memory)}
    assert "an estimate: not measured" in hal0ctl("slot", "show", "primary").out
    api.slots = {"primary": slot_view("primary", SlotState.OFFLINE, memory=measured)}
    assert "GB" not in hal0ctl("ps", "-a").out
