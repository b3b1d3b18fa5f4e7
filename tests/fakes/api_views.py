"""Sample views for tests of the command line."""

import time
from typing import Any

from hal0.vocab import BUILTIN_SLOTS, By, Capability, Device, ProviderName, Rule, SlotState, SwapMode, Want
from hal0.wire.history import ActivityView, DecisionView, ExplainView, TriedView
from hal0.wire.jobs import JobProgress
from hal0.wire.slots import DesiredView, ProgressView, ServesView, SlotView
from hal0.wire.system import ImageView

Json = dict[str, Any]
MODEL = "qwen3-30b-a3b-instruct-2507-q4_k_m"


def slot_view(name: str = "primary", state: SlotState = SlotState.OFFLINE, **changes: Any) -> SlotView:
    """A slot as hal0 shows it; `changes` replace single members."""
    serving = state in (SlotState.READY, SlotState.SERVING, SlotState.IDLE)
    desired = DesiredView(
        want=Want.LOADED if serving else Want.UNLOADED, model=None, by=By.OPERATOR, at=time.time() - 60
    )
    values: Json = {
        "name": name, "builtin": name in BUILTIN_SLOTS, "state": state, "since": time.time() - 30,
        "message": f"{name} is {state}",
        "desired": desired, "provider": ProviderName.LLAMACPP, "device": Device.CPU,
        "model": MODEL if name == "primary" else None, "seed_model": None, "demo": False,
        "serves": [ServesView(model=MODEL, capability=Capability.CHAT)], "aliases": [],
        "capabilities": [Capability.CHAT],
        "port": 8081 if serving else None, "url": "http://127.0.0.1:8081" if serving else None, "containers": [],
        "context_size": 32768, "pinned": False, "priority": 50, "in_flight": 0, "queued": 0, "max_inflight": 4,
        "swap_mode": SwapMode.REPLACE, "swap": None, "progress": None, "failure": None, "stale": None, "unsaved": False,
        "ready_at": None, "last_used": None, "idle_timeout_s": 600.0,
        "expected_load_s": None, "remaining_s": None, "notes": [],
    }  # fmt: skip
    return SlotView(**{**values, **changes})


def warming(name: str, fraction: float, **changes: Any) -> SlotView:
    progress = ProgressView(phase="warming", fraction=fraction, message=f"{round(fraction * 65)}/65 layers")
    values = {
        "since": time.time() - 18,
        "expected_load_s": 31.0,
        "remaining_s": 13.0,
        "queued": 3,
        "progress": progress,
    }
    return slot_view(name, SlotState.WARMING, **{**values, **changes})


def decision_view(request_id: str = "req_01", **changes: Any) -> DecisionView:
    """A request that a slot answered by its name."""
    values: Json = {
        "request_id": request_id, "at": time.time() - 5, "key_id": None, "method": "POST",
        "path": "/v1/chat/completions", "asked_model": "primary", "target": "primary", "model": MODEL,
        "rule": Rule.ADDRESS, "tried": [TriedView(rule=Rule.ADDRESS, hit=True, fact="'primary' means the slot")],
        "candidates": ["primary"], "stream": False, "status": 200, "code": None, "queue_position": None,
        "held_ms": 0.0, "turn_ms": 0.0, "connect_ms": 0.3, "first_byte_ms": 210.0, "total_ms": 1234.0,
        "overhead_ms": 0.2, "bytes_out": 300, "prompt_tokens": 7, "completion_tokens": 3, "tokens_per_second": 42.5,
        "summary": "'primary' means the slot. primary answered 200 after 1.2 s.", "seq": 1,
    }  # fmt: skip
    return DecisionView(**{**values, **changes})


def explain_view() -> ExplainView:
    made = decision_view()
    return ExplainView(
        path=made.path, asked_model="primary", target="primary", upstreams=[], model=MODEL, rule=made.rule,
        tried=made.tried, candidates=made.candidates, state="ready", error=None, summary="primary is ready now.",
    )  # fmt: skip


def activity_view(number: int = 1, **changes: Any) -> ActivityView:
    values: Json = {
        "id": number, "at": time.time() - 60, "kind": "slot.ready", "subject": "primary",
        "message": "slot primary is ready", "by": "operator",
    }  # fmt: skip
    return ActivityView(**{**values, **changes})


def image_view(key: str = "cpu", **changes: Any) -> ImageView:
    values: Json = {
        "key": key, "ref": f"ghcr.io/hal0ai/hal0-toolbox-{key}", "digest": None, "local_id": None, "local_tag": None,
        "size_bytes": None, "source": "none", "devices": [key], "buildable": True, "pullable": False, "note": None,
    }  # fmt: skip
    return ImageView(**{**values, **changes})


def progress(fraction: float, message: str) -> JobProgress:
    return JobProgress(fraction=fraction, message=message)
