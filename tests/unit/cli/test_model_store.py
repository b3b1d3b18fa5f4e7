"""`hal0ctl model` over the disk and the hub, and how a pull is asked for, against a scripted hal0."""

import time
from pathlib import Path
from typing import Any

import pytest

from hal0.cli.exits import Exit
from tests.fakes.api_server import ApiServer, error
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_model import ENTRY, JOB, PULL, known  # noqa: F401  a fixture

# ---- what is on the disk ----


def _used(model: str, **changes: Any) -> dict[str, Any]:
    values = {
        "id": model, "size_bytes": 2_500_000_000, "removable": True, "came_at": 1.0, "last_used": None, "kept_by": [],
    }  # fmt: skip
    return {**values, **changes}


@pytest.fixture
def usage(api: ApiServer) -> None:
    items = [
        _used("old"),
        _used("loaded", kept_by=["slot primary"]),
        _used("theirs", removable=False),
        _used("used", last_used=time.time() - 86_400),
        _used("new", came_at=time.time()),
    ]
    room = {
        "unknown_before": None,
        "store": "/store",
        "pulls_bytes": 6_100_000_000,
        "free_bytes": 10**11,
        "total_bytes": 10**12,
    }
    api.replies["GET", "/api/disk"] = (200, {"items": items, **room})
    api.replies["DELETE", "/api/models/old"] = (200, {"id": "old", "freed_bytes": 2_500_000_000})


@pytest.mark.usefixtures("usage")
def test_the_room_that_models_take(hal0ctl: Run) -> None:
    ran = hal0ctl("model", "du")
    assert [row.split()[:4] for row in ran.out.splitlines()[1:3]] == [
        ["old", "2.5", "GB", "-"],
        ["loaded", "2.5", "GB", "-"],
    ]
    assert "slot primary" in ran.out
    assert "another program" in ran.out
    assert "10.0 GB of models in /store, 100.0 GB are free there" in ran.err
    assert "6.1 GB of downloads that have not ended: hal0ctl model pulls" in ran.err


@pytest.mark.usefixtures("usage")
def test_only_what_nobody_uses_is_pruned(hal0ctl: Run, api: ApiServer) -> None:
    ran = hal0ctl("model", "prune", "--dry-run", "-o", "name")
    assert (ran.code, ran.out) == (0, "old\n")
    assert hal0ctl("model", "prune").code == 2  # nobody to ask
    assert not [call for call in api.requests if call[0] == "DELETE"]
    ran = hal0ctl("model", "prune", "-y")
    assert (ran.code, ran.out) == (0, "old is deleted\n2.5 GB are free\n")
    assert [call[1] for call in api.requests if call[0] == "DELETE"] == ["/api/models/old"]


@pytest.mark.usefixtures("usage")
def test_what_may_have_been_used_and_is_forgotten_is_left(hal0ctl: Run, api: ApiServer) -> None:
    code, view = api.replies["GET", "/api/disk"]
    api.replies["GET", "/api/disk"] = (code, {**view, "unknown_before": time.time() - 86_400})
    assert hal0ctl("model", "prune", "-o", "name", "--dry-run").out == ""
    assert hal0ctl("model", "prune", "--unused-for", "1h", "-o", "name", "--dry-run").out == "old\nused\n"
    for item in view["items"]:
        item["last_used"] = 2.0  # long ago, as far as is known: what came later may be forgotten
    assert hal0ctl("model", "prune", "-o", "name", "--dry-run").out == ""


@pytest.mark.usefixtures("usage")
def test_what_came_into_use_meanwhile_is_left(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["DELETE", "/api/models/old"] = error(409, "model.in_use", "it is loaded")
    ran = hal0ctl("model", "prune", "--unused-for", "30d", "-y")
    assert (ran.code, "error: old: it is loaded   [model.in_use]" in ran.err) == (Exit.FAILED, True)


def test_a_check_of_models_is_a_check(hal0ctl: Run, api: ApiServer) -> None:
    said = {**JOB, "kind": "model.verify", "note": "1 file is what came"}
    api.replies["POST", "/api/models/m-q4_k_m/verify"] = (202, said)
    ran = hal0ctl("model", "verify")
    assert (ran.code, ran.out) == (0, "ok    m-q4_k_m: 1 file is what came\n")
    fault: dict[str, Any] = {"code": "model.checksum", "message": "it is not what came", "details": {}, "hint": None}
    api.replies["POST", "/api/models/m-q4_k_m/verify"] = (202, {**said, "state": "failed", "error": fault})
    ran = hal0ctl("model", "verify", "m-q4_k_m")
    assert (ran.code, ran.out) == (Exit.CHECK_FAILED, "fail  m-q4_k_m: it is not what came\n")


# ---- how it is asked for ----


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("pull", "a/b", "--quant", "Q8_0"), {"model": "a/b:Q8_0"}),
        (("pull", "a/b", "--file", "x/y.gguf"), {"model": "a/b/x/y.gguf"}),
        (("pull", "a/b", "--rate", "5MB"), {"model": "a/b", "rate_limit": 5_000_000}),
        (("pull", "a/b", "--rate", "1 GiB"), {"model": "a/b", "rate_limit": 1 << 30}),
        (("model", "add", "/disk/m.gguf"), {"model": "/disk/m.gguf"}),
        (("model", "add", "/disk/m.gguf", "--copy"), {"model": "/disk/m.gguf"}),
        (("model", "add", "/a/m", "/a/n", "--link", "--id", "x"),
         {"model": "/a/m", "more": ["/a/n"], "link": True, "id": "x"}),
        (("model", "add", "/a/m", "--task", "embed"), {"model": "/a/m", "task": "embed"}),
    ],
)  # fmt: skip
def test_what_a_pull_is_asked_with(hal0ctl: Run, api: ApiServer, words: tuple[str, ...], body: dict[str, Any]) -> None:
    assert hal0ctl(*words).code == 0
    assert ("POST", "/api/pulls", body) in api.requests


def test_a_link_is_taken_by_its_own_name(
    hal0ctl: Run, api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a hub's cache has them: what it leads to is called by its digest."""
    (tmp_path / "m.gguf").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path)
    assert hal0ctl("model", "add", "m.gguf").code == 0
    assert ("POST", "/api/pulls", {"model": str(tmp_path / "m.gguf")}) in api.requests


def test_a_whole_folder_is_added_and_what_cannot_be_keeps_nothing_out(hal0ctl: Run, api: ApiServer) -> None:
    def found(name: str, *files: str, here: bool = False) -> dict[str, Any]:
        return {"id": name, "files": list(files), "size_bytes": 1, "capabilities": ["chat"], "here": here}

    items = [found("m-q4_k_m", "/a/m.gguf", "/a/mmproj.gguf"), found("old", "/a/old.gguf", here=True)]
    view = {"items": items, "problems": [{"file": "/a/x", "code": "model.checksum", "message": "cannot read /a/x"}]}
    api.replies["POST", "/api/pulls/look"] = (200, view)
    ran = hal0ctl("model", "add", "/a", "--recursive", "--link")
    assert (ran.code, ran.out) == (0, "m-q4_k_m is here\n")
    assert ("POST", "/api/pulls/look", {"path": "/a"}) in api.requests
    asked = [call[2] for call in api.requests if call[1] == "/api/pulls"]
    assert asked == [{"model": "/a/m.gguf", "more": ["/a/mmproj.gguf"], "link": True}]
    assert ran.err.splitlines() == ["note: cannot read /a/x", "old is here", "1 models"]
    api.replies["POST", "/api/pulls"] = error(507, "pull.disk_full", "cannot pull")
    ran = hal0ctl("model", "add", "/a", "--recursive")
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert "error: m-q4_k_m: cannot pull   [pull.disk_full]" in ran.err
    assert hal0ctl("model", "add", "/a", "--recursive", "--id", "x").code == Exit.USAGE


QUANTS: dict[str, Any] = {
    "repo": "a/b", "revision": "main", "slot": "primary", "context": 8192, "guess": True,
    "items": [
        {"model": "m-q4_k_m", "quantisation": "Q4_K_M", "files": ["M.gguf"], "digests": {"M.gguf": "ab" * 32},
         "size_bytes": 2_500_000_000, "need_bytes": 3_000_000_000, "verdict": "fits", "message": "fits now",
         "installed": True},
        {"model": "m-f16", "quantisation": "F16", "files": ["a", "b"], "digests": {}, "size_bytes": 9_000_000_000,
         "need_bytes": 9_900_000_000, "verdict": "too_large", "message": "too large by 2.9 GB", "installed": False},
    ],
}  # fmt: skip


def test_a_model_is_shown_with_the_other_quantisations_and_which_of_them_fit(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["GET", "/api/catalog/quants"] = (200, QUANTS)
    ran = hal0ctl("model", "show", "m-q4_k_m", "--ctx", "8192")
    told, head, *rows, unsure = ran.out.split("\n\n")[1].splitlines()
    assert told == "a/b, in primary with 8192 tokens of context:"
    assert head.split() == ["QUANT", "SIZE", "MEMORY", "FITS", "FILES", "SHA256", "MODEL"]
    assert [row.split() for row in rows] == [
        ["Q4_K_M", "2.5", "GB", "3.0", "GB", "here", "1", "abababababab", "m-q4_k_m"],
        ["F16", "9.0", "GB", "9.9", "GB", "too", "large", "by", "2.9", "GB", "2", "-", "m-f16"],
    ]
    assert unsure == "its cache is not known: each takes more than this"
    api.replies["GET", "/api/models/a%2Fb"] = error(503, "model.not_downloaded", "it is a place")
    ran = hal0ctl("model", "show", "a/b")  # nothing of it is here
    assert ran.out.splitlines()[0] == told
    api.replies["GET", "/api/catalog/quants"] = (200, {**QUANTS, "items": []})
    assert hal0ctl("model", "show", "a/b").out == "a/b has no GGUF files to choose among\n"
    api.replies["GET", "/api/catalog/quants"] = error(404, "model.not_found", "cannot pull a/b")
    assert hal0ctl("model", "show", "a/b").code == Exit.NOT_FOUND


def test_a_models_defaults_are_set_and_who_starts_by_them_is_told(hal0ctl: Run, api: ApiServer) -> None:
    view = {**ENTRY, "defaults": {"context_size": 512, "extra_args": ["-fa", "on"]}}
    api.replies["PATCH", "/api/models/m-q4_k_m"] = (200, view)
    ran = hal0ctl("model", "set", "m-q4_k_m", "context_size=512", "extra_args=-fa on", "parallel=")
    said = {"context_size": 512, "extra_args": "-fa on", "parallel": None}
    assert ("PATCH", "/api/models/m-q4_k_m", {"defaults": said}) in api.requests
    assert ran.err.splitlines() == [
        "m-q4_k_m: context_size 512, extra_args -fa on",
        "a slot that runs it starts by them the next time: hal0ctl slot restart primary",
    ]
    assert hal0ctl("model", "set", "m-q4_k_m", "color=red").code == Exit.USAGE
    assert len(hal0ctl("model", "set", "m-q4_k_m", 'request_defaults={"top_k": 1}').err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        (), ("a/b", "c/d", "--quant", "Q8_0"), ("a/b", "--quant", "Q8_0", "--file", "x"), ("a/b", "--rate", "fast"),
        ("a/b", "--rate", "0"), ("a/b", "--rate", "9" * 400), ("a/b", "--rate", "9999999TB"),
        ("a/b", "--attach", "job_1"), ("--attach", "job_1", "--slot", "primary"), ("a/b", "--verify", "--no-wait"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_together_asks_nothing(hal0ctl: Run, api: ApiServer, words: tuple[str, ...]) -> None:
    assert hal0ctl("pull", *words).code == Exit.USAGE
    assert not [call for call in api.requests if call[0] == "POST"]


def test_a_download_under_way_is_followed(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["GET", "/api/pulls/job_1"] = (200, PULL)
    api.replies["GET", "/api/jobs/job_1"] = (200, JOB)
    ran = hal0ctl("pull", "--attach", "job_1")
    assert (ran.code, ran.err) == (0, "m-q4_k_m is here: hal0ctl slot swap SLOT m-q4_k_m\n")


def test_what_came_is_read_once_more_where_that_is_asked_for(hal0ctl: Run, api: ApiServer) -> None:
    api.replies["POST", "/api/models/m-q4_k_m/verify"] = (
        202,
        {**JOB, "kind": "model.verify", "note": "of 1 nobody has said what it has to be"},
    )
    ran = hal0ctl("pull", "a/b", "--verify")
    found = ["m-q4_k_m is here, and was read again", "note: of 1 nobody has said what it has to be"]
    assert (ran.code, ran.err.splitlines()[-2:]) == (0, found)


def test_what_is_found_is_told_with_what_is_guessed(hal0ctl: Run, api: ApiServer) -> None:
    row: dict[str, Any] = {
        "name": "m-q4_k_m", "curated": True, "installed": False, "purpose": "For tests.", "license": "mit",
        "gated": False, "downloads": None, "context_length": 4096, "memory_bytes": 3_000_000_000, "fits": True,
    }  # fmt: skip
    far = {**row, "name": "a/b", "curated": False, "gated": True, "downloads": 12, "fits": False}
    items = [row, far, {**far, "name": "a/c", "memory_bytes": None, "fits": None}]
    api.replies["GET", "/api/catalog/search"] = (200, {"items": items, "hub": "h", "problem": "no connection"})
    ran = hal0ctl("model", "search", "q", "w", "--columns", "model,fits,memory,fetched")
    assert [row.split() for row in ran.out.splitlines()[1:]] == [
        ["m-q4_k_m", "yes", "3.0", "GB", "catalog"],
        ["a/b", "~no", "~3.0", "GB", "12"],
        ["a/c", "-", "-", "12"],
    ]
    assert "only the catalog is shown: no connection" in ran.err


def test_no_name_or_licence_of_anybody_s_reaches_the_terminal_as_a_command(hal0ctl: Run, api: ApiServer) -> None:
    hostile = {**ENTRY, "id": "m\x1b[2J\x07-q4", "license": "mit\x1b]0;owned\x07\r", "slots": ["a\nb"]}
    api.replies["GET", "/api/models"] = (200, {"items": [hostile], "remembered": [], "bindings": [], "problems": []})
    api.replies["GET", "/api/models/m"] = (200, hostile)
    api.replies["POST", "/api/pulls"] = error(403, "pull.gated", "its publisher\x1b[8m asks")
    for words in (("model", "list", "-o", "wide"), ("model", "show", "m"), ("pull", "a/b")):
        ran = hal0ctl(*words)
        assert not {"\x1b", "\x07", "\r"} & set(ran.out + ran.err)
    assert len(hal0ctl("model", "list").out.splitlines()) == 2


def test_who_lets_go_of_a_download_is_told_how_to_follow_and_how_to_stop_it(
    hal0ctl: Run, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hal0.cli.follow._until_ended", interrupted)
    api.replies["POST", "/api/pulls"] = (202, {**JOB, "state": "running"})
    ran = hal0ctl("pull", "a/b")
    assert ran.code == Exit.INTERRUPTED
    assert "Follow: hal0ctl pull --attach job_1. Stop: hal0ctl model cancel job_1" in ran.err
