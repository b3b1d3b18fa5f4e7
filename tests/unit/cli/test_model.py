"""`hal0ctl model` against a scripted hal0: what is sent, what is shown, and the exit codes."""

from typing import Any

import pytest

from hal0.cli.exits import Exit
from hal0.cli.model_fit import LOOK_S
from hal0.cli.progress import pace_words, step_of_job
from hal0.cli.session import Session
from hal0.client import Client
from hal0.vocab import SlotState
from tests.fakes.api_server import ApiServer, error
from tests.fakes.api_views import slot_view
from tests.unit.cli.conftest import Run

PACE: dict[str, Any] = {
    "done_bytes": 7_600_000_000,
    "total_bytes": 18_600_000_000,
    "bytes_per_s": 38.4e6,
    "eta_s": 286.0,
}
ENTRY: dict[str, Any] = {
    "id": "m-q4_k_m", "file": "/store/M.gguf", "files": 1, "size_bytes": 2_500_000_000, "created": 1.0,
    "format": "gguf", "architecture": "qwen3", "quantisation": "Q4_K_M", "context_length": 32768,
    "cache_bytes_per_token": 1, "capabilities": ["chat"], "directory": None, "mmproj": None, "license": "mit",
    "source": {"repo": "a/b", "file": "M.gguf"}, "demo": False, "aliases": ["fast"], "slots": ["primary"],
    "removable": True, "chat_template": True, "sha256": "ab" * 32, "defaults": {},
    "parts": [{"file": "/store/M.gguf", "size_bytes": 2_500_000_000, "sha256": "ab" * 32}],
}  # fmt: skip
PULL: dict[str, Any] = {
    "id": "job_1", "model": "m-q4_k_m", "state": "running", "source": {"repo": "a/b"}, "license": None, "files": [],
    "message": "fetching M.gguf", "pace": PACE, "error": None, "started_at": 1.0,
}  # fmt: skip
JOB: dict[str, Any] = {
    "id": "job_1", "kind": "model.pull", "target": "m-q4_k_m", "state": "done", "progress": None, "error": None,
    "note": None, "by": "operator", "started_at": 1.0, "ended_at": 2.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def known(api: ApiServer) -> None:
    problem = {"file": "/store/x.pt", "code": "model.unsafe_format", "message": "cannot use /store/x.pt: a pickle"}
    listed = {"items": [ENTRY], "remembered": [], "bindings": [], "problems": [problem]}
    api.replies["GET", "/api/models"] = (200, listed)
    api.replies["GET", "/api/models/m-q4_k_m"] = (200, ENTRY)
    for verb in ("scan", "alias", "bind"):
        api.replies["POST", f"/api/models/{verb}"] = (200, listed)
    api.replies["DELETE", "/api/models/m-q4_k_m"] = (200, {"id": "m-q4_k_m", "freed_bytes": 2_500_000_000})
    api.replies["GET", "/api/pulls"] = (200, {"items": [PULL]})
    api.replies["POST", "/api/pulls"] = (202, JOB)
    api.replies["POST", "/api/pulls/job_1/pause"] = (200, {**PULL, "state": "paused"})
    api.replies["POST", "/api/pulls/job_1/resume"] = (202, JOB)
    api.replies["DELETE", "/api/pulls/job_1"] = (200, {**JOB, "state": "cancelled"})


def test_the_list_and_what_cannot_be_used(hal0ctl: Run) -> None:
    ran = hal0ctl("models", "ls")
    head, row = ran.out.splitlines()
    assert head.split()[:3] == ["MODEL", "CAN", "SIZE"]
    assert row.split()[:5] == ["m-q4_k_m", "chat", "2.5", "GB", "Q4_K_M"]
    assert "a pickle" in ran.err


def test_a_folder_full_of_what_cannot_be_used_does_not_fill_the_screen(hal0ctl: Run, api: ApiServer) -> None:
    problems = [{"file": f"/x/{n}", "code": "model.checksum", "message": f"cannot read /x/{n}"} for n in range(500)]
    api.replies["GET", "/api/models"] = (200, {"items": [], "remembered": [], "bindings": [], "problems": problems})
    told = hal0ctl("model", "list").err.splitlines()
    assert (len(told), told[0], told[-1]) == (11, "note: cannot read /x/0", "note: 490 more files cannot be used")


def _offered(model: str, **changes: Any) -> dict[str, Any]:
    values = {
        "id": model, "name": "M", "purpose": "For tests.", "license": "mit", "provider": "llama.cpp",
        "capabilities": ["chat"], "size_bytes": 2_500_000_000, "memory_bytes": 5_400_000_000, "context_length": 40960,
        "context": 8192, "files": [], "repo": "a/b", "installed": False, "fits": True, "slots": [],
    }  # fmt: skip
    return {**values, **changes}


def test_the_catalog_says_what_fits_and_what_it_is_best_for(api: ApiServer, hal0ctl: Run) -> None:
    items = [
        _offered("small-q8_0", slots=["primary"]),
        _offered("vectors", capabilities=["embed"], installed=True),
        _offered("huge-q4_k_m", fits=False),
    ]
    api.replies["GET", "/api/catalog"] = (200, {"items": items, "memory_bytes": 7_000_000_000})
    ran = hal0ctl("model", "list", "--catalog", "--columns", "model,memory,fits,here,best for")
    assert [row.split() for row in ran.out.splitlines()[1:]] == [
        ["small-q8_0", "5.4", "GB", "yes", "-", "primary"],
        ["vectors", "5.4", "GB", "yes", "yes", "-"],
        ["huge-q4_k_m", "5.4", "GB", "no", "-", "-"],
    ]
    assert "7.0 GB for models on this machine" in ran.err
    assert hal0ctl("model", "list", "--catalog", "--fits", "--task", "chat", "-o", "name").out == "small-q8_0\n"
    ran = hal0ctl("model", "list", "--catalog", "--sort", "name", "-o", "name")
    assert ran.out.split() == ["huge-q4_k_m", "small-q8_0", "vectors"]


def test_the_installed_ones_by_task(hal0ctl: Run) -> None:
    assert hal0ctl("model", "list", "--task", "chat", "-o", "name").out == "m-q4_k_m\n"
    assert hal0ctl("model", "list", "--task", "embed", "-o", "name").out == ""


def _fit(verdict: str, **changes: Any) -> dict[str, Any]:
    values = {
        "model": "big", "installed": False, "size_bytes": 1, "slot": "primary", "context": 8192, "verdict": verdict,
        "message": "too large by 12.9 GB", "need_bytes": 33_800_000_000,
        "terms": [{"name": "weights", "bytes": 30_000_000_000}, {"name": "buffers", "bytes": 3_800_000_000}],
        "pool": "RAM", "pool_need_bytes": 33_800_000_000, "free_bytes": 20_900_000_000,
        "total_bytes": 24_000_000_000, "short_bytes": 12_900_000_000, "slots": [], "guess": False,
        "parallel": None, "beside": [],
    }  # fmt: skip
    return {**values, **changes}


def test_the_sum_of_a_fit_and_its_exit_code(api: ApiServer, hal0ctl: Run) -> None:
    api.replies["GET", "/api/models/fit"] = (200, _fit("too_large"))
    ran = hal0ctl("model", "fit", "big", "--slot", "primary", "--ctx", "8192")
    assert ran.code == 6
    assert [" ".join(row.split()) for row in ran.out.splitlines()] == [
        "big in primary: too large by 12.9 GB",
        "weights 30.0 GB",
        "buffers 3.8 GB",
        "needs 33.8 GB",
        "free of RAM 20.9 GB of 24.0 GB",
    ]
    api.replies["GET", "/api/models/fit"] = (200, _fit("fits", parallel=4))
    ran = hal0ctl("model", "fit", "big", "--parallel", "4", "--with", "embed,stt")
    assert api.requests[-1][1] == "/api/models/fit?model=big&parallel=4&with=embed%2Cstt"
    assert "4 requests share the 8192 tokens: 2048 each when all are long" in ran.out


@pytest.mark.parametrize("verdict", ["fits", "soon", "if_unloaded"])
def test_what_a_load_makes_room_for_fits(api: ApiServer, hal0ctl: Run, verdict: str) -> None:
    told = _fit(verdict, free_bytes=None, total_bytes=None, guess=True)
    api.replies["GET", "/api/models/fit"] = (200, told)
    ran = hal0ctl("model", "fit", "a/b:Q4_K_M")
    assert ran.code == 0
    assert "free" not in ran.out
    assert "it takes more than this" in ran.out
    assert hal0ctl("model", "fit", "a/b:Q4_K_M", "-o", "name").out == f"{verdict}\n"


def test_one_says_where_it_is_from(hal0ctl: Run) -> None:
    ran = hal0ctl("model", "show", "m-q4_k_m")
    assert "source         a/b M.gguf" in ran.out
    assert f"file           /store/M.gguf  2.5 GB  sha256 {'ab' * 32}" in ran.out
    assert "its other quantisations are not shown: cannot find" in ran.err


@pytest.mark.parametrize(
    ("words", "method", "path", "body"),
    [
        (("pull", "a/b:Q4_K_M"), "POST", "/api/pulls", {"model": "a/b:Q4_K_M"}),
        (("model", "pull", "a/b", "--id", "x"), "POST", "/api/pulls", {"model": "a/b", "id": "x"}),
        (("model", "pull", "a/b/x", "http://c/y"), "POST", "/api/pulls", {"model": "a/b/x", "more": ["http://c/y"]}),
        (("model", "resume", "job_1"), "POST", "/api/pulls/job_1/resume", {}),
        (("model", "delete", "m-q4_k_m", "-y"), "DELETE", "/api/models/m-q4_k_m", None),
        (("model", "alias", "m", "fast"), "POST", "/api/models/alias", {"alias": "fast", "model": "m"}),
        (("model", "alias", "m", "fast", "--remove"), "POST", "/api/models/alias", {"alias": "fast", "model": None}),
        (
            ("model", "bind", "far", "--upstream", "box", "--name", "Far"),
            "POST",
            "/api/models/bind",
            {"model": "far", "slot": None, "upstream": "box", "name": "Far"},
        ),
        (("model", "unbind", "far"), "POST", "/api/models/bind", {"model": "far"}),
        (("model", "scan"), "POST", "/api/models/scan", None),
    ],
)
def test_what_is_sent(
    hal0ctl: Run, api: ApiServer, words: tuple[str, ...], method: str, path: str, body: dict[str, object] | None
) -> None:
    assert hal0ctl(*words).code == 0
    sent = [call for call in api.requests if call[:2] == (method, path)]
    assert sent
    assert body is None or sent[-1][2] == body


def test_a_binding_names_one_side(hal0ctl: Run) -> None:
    assert hal0ctl("model", "bind", "m").code == 2
    assert hal0ctl("model", "bind", "m", "--slot", "a", "--upstream", "b").code == 2


def test_without_a_yes_nothing_is_deleted(hal0ctl: Run, api: ApiServer) -> None:
    assert hal0ctl("model", "delete", "m-q4_k_m").code == 2
    assert not [call for call in api.requests if call[0] == "DELETE"]


def test_downloads_and_how_far_they_are(hal0ctl: Run) -> None:
    ran = hal0ctl("model", "pulls")
    assert "7.6 GB of 18.6 GB   38.4 MB/s   4 min 46 s left" in ran.out
    assert "fetching M.gguf" in ran.out
    assert "7.6 GB of 18.6 GB" in hal0ctl("model", "pause", "job_1").out
    assert "given up" in hal0ctl("model", "cancel", "job_1").out


def test_a_refusal_is_shown_with_its_way_out(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["POST", "/api/pulls"] = error(403, "pull.gated", "its publisher asks for consent")
    ran = hal0ctl("pull", "a/b")
    assert ran.code != 0
    assert "consent" in ran.err


def test_pace_in_words() -> None:
    assert pace_words({"done_bytes": 0, "total_bytes": None, "bytes_per_s": None, "eta_s": None}) == "0 B"
    job = {**JOB, "state": "running", "progress": {"fraction": 0.4, "message": "fetching M.gguf", "pace": PACE}}
    step = step_of_job(job)
    assert (step.label, step.fraction) == ("Pull", 0.4)
    assert step.message == "fetching M.gguf   7.6 GB of 18.6 GB   38.4 MB/s   4 min 46 s left"


def test_the_licence_of_a_download_is_said_as_it_begins(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["GET", "/api/pulls/job_1"] = (200, {**PULL, "license": "mit"})
    ran = hal0ctl("pull", "a/b", "--no-wait")
    assert ran.err.splitlines()[0] == "m-q4_k_m comes under its licence mit"


def test_the_licence_of_a_model_that_is_not_here_is_said_before_it_comes(api: ApiServer, hal0ctl: Run) -> None:
    api.slots["img"] = slot_view("img", SlotState.OFFLINE, model="m")
    away = error(503, "model.not_downloaded", "it is not downloaded", model="m", size_bytes=25 * 10**8, license="mit")
    api.replies["GET", "/api/models/m"] = away
    ran = hal0ctl("slot", "load", "img", "--no-wait")
    assert ran.err.splitlines()[0] == "m is fetched first (2.5 GB), under its licence mit"
    asked = [(method, path) for method, path, _ in api.requests]
    assert asked.index(("GET", "/api/models/m")) < asked.index(("POST", "/api/slots/img/load"))
    assert "mit" in hal0ctl("slot", "swap", "primary", "m", "--no-wait").err


def test_what_is_pulled_for_a_slot_is_loaded_into_it_also_when_it_was_here_before(hal0ctl: Run, api: ApiServer) -> None:
    assert hal0ctl("pull", "a/b", "--slot", "primary").code == 0
    api.replies["POST", "/api/pulls"] = error(409, "model.exists", "it is here", model="m-q4_k_m")
    ran = hal0ctl("model", "pull", "a/b", "--slot", "primary")
    assert ran.err.splitlines()[-1] == "primary has m-q4_k_m"
    assert api.requests.count(("POST", "/api/slots/primary/swap", {"model": "m-q4_k_m"})) == 2
    assert hal0ctl("pull", "a/b", "--slot", "primary", "--no-wait").code == 2


def test_a_slot_that_is_none_is_told_before_anything_comes_for_it(hal0ctl: Run, api: ApiServer) -> None:
    ran = hal0ctl("pull", "a/b", "--slot", "primaryy")
    assert (ran.code, "cannot find a slot 'primaryy'" in ran.err) == (Exit.NOT_FOUND, True)
    assert not [path for method, path, _ in api.requests if method == "POST"]


def test_a_digest_that_is_empty_is_not_taken_for_none(hal0ctl: Run, api: ApiServer) -> None:
    """As of a variable that is not set."""
    hal0ctl("model", "pull", "http://c/y", "--sha256", "")
    assert ("POST", "/api/pulls", {"model": "http://c/y", "sha256": ""}) in api.requests


def test_every_place_that_is_named_may_take_its_time(hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float | None] = []
    ask = Session.client

    def asked(session: Session, *, timeout_s: float | None = None) -> Client:
        limits.append(timeout_s)
        return ask(session, timeout_s=timeout_s)

    monkeypatch.setattr(Session, "client", asked)
    assert hal0ctl("pull", "a/b/x", "a/b/y", "a/b/z").code == 0
    assert limits == [3 * LOOK_S]


def test_a_dry_run_says_the_sum_and_fetches_nothing(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["GET", "/api/models/fit"] = (200, _fit("too_large"))
    ran = hal0ctl("pull", "a/b:Q4_K_M", "--dry-run")
    assert (ran.code, ran.out.splitlines()[0]) == (6, "big in primary: too large by 12.9 GB")
    assert not [path for method, path, _ in api.requests if method == "POST"]
    assert hal0ctl("pull", "a/b", "c/d", "--dry-run").code == 2
