"""`hal0ctl cap` against a scripted hal0: what is shown, what is sent, and how a half success ends."""

import json
from typing import Any

import pytest

from hal0.cli.exits import Exit
from hal0.vocab import Capability, Device, ProviderName
from hal0.wire.capabilities import (
    CandidateView,
    CardsView,
    CardView,
    ChildView,
    ChoiceView,
    DriftView,
    HiddenView,
    TrialView,
)
from hal0.wire.jobs import JobKind
from tests.fakes.api_server import ApiServer, error
from tests.unit.cli.conftest import Run

LLAMA = ProviderName.LLAMACPP


def child(name: str, **changes: Any) -> ChildView:
    values: dict[str, Any] = {
        "name": name, "capability": Capability.EMBED, "path": "/v1/embeddings", "slot": name, "switch": True,
        "enabled": True, "state": "ready", "message": "serving nomic", "provider": LLAMA, "device": Device.CPU,
        "model": "nomic", "memory_bytes": 300_000_000, "in_flight": 2, "port": 8082,
        "drift": [], "live": None,
        "choices": [
            ChoiceView(provider=LLAMA, device=Device.VULKAN, image="vulkan", ready=False, code="device.missing",
                       reason="cannot run on vulkan: no GPU was found"),
            ChoiceView(provider=LLAMA, device=Device.CPU, image="cpu", ready=True, code=None, reason=""),
        ],
        "models": [CandidateView(model="nomic", size_bytes=146_000_000, installed=True)],
    }  # fmt: skip
    return ChildView(**{**values, **changes})


EMBED = CardView(
    name="embed",
    children=[
        child("embed", drift=[DriftView(key="model", card="nomic", slot="mini")]),
        child("rerank", slot="embed-rerank", enabled=False, state="absent", message="not turned on yet", model=None),
    ],
)
HIDDEN = HiddenView(name="npu", code="device.missing", reason="cannot run on npu: there is none", hint="")


def trial(*, ok: bool) -> dict[str, Any]:
    return TrialView(
        ok=ok, message="768 numbers" if ok else "slot embed is offline", code=None if ok else "slot.offline",
        slot="embed", took_ms=14.2, request_id="req_1",
    ).model_dump(mode="json")  # fmt: skip


@pytest.fixture(autouse=True)
def cards(api: ApiServer) -> None:
    api.replies["GET", "/api/capabilities"] = (
        200,
        CardsView(items=[EMBED], hidden=[HIDDEN]).model_dump(mode="json"),
    )
    api.replies["GET", "/api/capabilities/embed"] = (200, EMBED.model_dump(mode="json"))


def accept(api: ApiServer, *rows: str) -> None:
    for row in rows:
        job = api.start_job(JobKind.CAPABILITY_ENABLE, row)
        api.replies["POST", f"/api/capabilities/{row}"] = (202, job.model_dump(mode="json"))
        steps = ["fetch m (0.4 GB), which is not here, under its licence mit", "load m (0.4 GB)"]
        plan = {"slot": "s", "creates": False, "model": "m", "fields": {}, "steps": steps}
        api.replies["POST", f"/api/capabilities/{row}/plan"] = (200, plan)


def test_the_list_is_one_line_per_row(hal0ctl: Run) -> None:
    ran = hal0ctl("cap", "list")
    head, embed, rerank = ran.out.splitlines()
    assert head.split()[:4] == ["CARD", "CHILD", "ON", "STATE"]
    assert embed.split()[:4] == ["embed", "embed", "yes", "ready"]
    assert "model: nomic is configured, mini is there" in embed
    assert rerank.split()[:4] == ["embed", "rerank", "no", "absent"]
    _, wide, _ = hal0ctl("cap", "list", "-o", "wide").out.splitlines()
    assert "300.0 MB      -       2  llama.cpp" in wide
    assert "npu is not shown: cannot run on npu" in ran.err
    assert hal0ctl("cap", "list", "-o", "name").out == "embed/embed\nembed/rerank\n"


def test_show_says_what_can_be_chosen_and_how_a_difference_ends(hal0ctl: Run) -> None:
    out = hal0ctl("cap", "show", "embed").out
    assert "device   vulkan (llama.cpp): cannot run on vulkan: no GPU was found" in out
    assert "could be nomic (146.0 MB)" in out
    assert "use the card's: hal0ctl cap set embed embed --model nomic" in out
    assert "use the slot's: hal0ctl cap set embed embed --model mini" in out


def test_enable_sends_what_was_said_and_waits(api: ApiServer, hal0ctl: Run) -> None:
    accept(api, "embed/rerank")
    ran = hal0ctl("cap", "enable", "embed", "rerank", "--device", "cpu")
    assert ran.code == 0
    assert ran.err.index("embed/rerank: fetch m (0.4 GB), which is not here, under its licence mit") < ran.err.index(
        "embed/rerank is on"
    )
    assert ("POST", "/api/capabilities/embed/rerank", {"enabled": True, "device": "cpu"}) in api.requests


def test_a_whole_card_is_all_of_its_rows_and_one_failure_is_partly_done(api: ApiServer, hal0ctl: Run) -> None:
    accept(api, "embed/embed")
    api.replies["POST", "/api/capabilities/embed/rerank/plan"] = error(503, "model.not_downloaded", "not here")
    ran = hal0ctl("cap", "enable", "embed")
    assert ran.code == Exit.PARTLY
    assert "error: embed/rerank: not here   [model.not_downloaded]" in ran.err


def test_set_needs_something_to_change(hal0ctl: Run) -> None:
    assert hal0ctl("cap", "set", "embed", "embed").code == Exit.USAGE


def test_a_row_that_does_not_work_fails_the_test(api: ApiServer, hal0ctl: Run) -> None:
    for row, ok in (("embed", True), ("rerank", False)):
        api.replies["POST", f"/api/capabilities/embed/{row}/test"] = (200, trial(ok=ok))
    ran = hal0ctl("cap", "test", "embed")
    assert ran.code == Exit.FAILED
    assert ran.out.splitlines() == [
        "ok    embed/embed: 768 numbers in 14 ms",
        "fail  embed/rerank: slot embed is offline in 14 ms   [slot.offline]",
    ]
    assert json.loads(hal0ctl("cap", "test", "embed", "embed", "-o", "json").out)["ok"]


def test_a_plan_is_its_steps(api: ApiServer, hal0ctl: Run) -> None:
    plan = {"slot": "embed-rerank", "creates": True, "model": "m", "fields": {}, "steps": ["create slot", "load m"]}
    api.replies["POST", "/api/capabilities/embed/rerank/plan"] = (200, plan)
    assert hal0ctl("cap", "plan", "embed", "rerank").out == "create slot\nload m\n"
