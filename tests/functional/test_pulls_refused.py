"""Pulls against a hub that lies and refuses: told rightly, and never a wrong file in place."""

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.pulls import placing
from hal0.pulls.verdicts import Again, judge
from hal0.wire.jobs import JobState
from hal0.wire.pulls import PullRequest
from tests.fakes.hub import Cut, Hub, status
from tests.functional.pulling import FILE, GGUF, MODEL, Place, begun, partial, pulled, refused
from tests.unit.models.test_content import PICKLE
from tests.vloop import until

# ---- what is told ----


async def test_why_nothing_comes_is_told_while_it_waits_and_what_to_do_when_it_gives_up(place: Place) -> None:
    place.hub.faults.extend([Cut(0), *[status(503)] * 500])

    async with place.hal0(pause_s=(0.3, 0.3), patience_s=2.0) as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))

        def told() -> str:
            return (job.view.progress.message if job.view.progress else None) or ""

        await until(lambda: told().endswith("trying again"), within_s=5)
        assert told().startswith(f"fetching {FILE}; ")
        async with asyncio.timeout(20):
            await job.wait()

        assert job.view.error is not None
        assert job.view.error["code"] == "pull.failed"
        assert "hal0ctl pull /path/to/it" in job.view.error["hint"]


async def test_a_hub_that_cannot_be_asked_is_told_with_the_reason_and_the_way_without_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.pulls.hub._LIST_S", 0.2)
    monkeypatch.setattr("hal0.pulls.hub.backoff_s", lambda *_: itertools.repeat(0.02))
    place.hub.listing = status(503)
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error, match=r"cannot look at acme/tiny: the server answered 503, for") as caught:
            await pulls.start(PullRequest(model="acme/tiny"))
    assert caught.value.code == "pull.failed"
    assert "hal0ctl pull /path/to/it" in (caught.value.hint or "")


async def test_a_hub_that_is_not_there_is_told_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal0.pulls.hub._AWAY_S", 0.05)
    monkeypatch.setattr("hal0.pulls.hub.backoff_s", lambda *_: itertools.repeat(0.02))
    place.hub.port = 1
    async with place.hal0() as pulls, asyncio.timeout(5):
        with pytest.raises(Hal0Error, match=r"cannot look at acme/tiny: 127.0.0.1: .*refused") as caught:
            await pulls.start(PullRequest(model="acme/tiny"))
    assert (caught.value.code, "hal0ctl pull /path/to/it" in (caught.value.hint or "")) == ("pull.failed", True)


# ---- what is refused ----


async def test_wrong_bytes_are_thrown_away(place: Place) -> None:
    def spoil(made: Hub, _request: web.Request) -> None:  # after the list with its digest was given
        made.files[FILE] = GGUF[:-1] + b"\x01"

    place.hub.faults.append(spoil)
    async with place.hal0() as pulls:
        error = await refused(pulls)

        assert error["code"] == "model.checksum"
        assert "not what was published" in error["message"]
        (kept,) = pulls.views()
        assert kept.pace.done_bytes == 0
    assert await place.in_place() == []
    assert await partial(place) == []


async def test_a_size_that_is_not_the_published_one_is_refused_before_a_byte_is_kept(place: Place) -> None:
    place.hub.sizes[FILE] = len(GGUF) + 1

    async with place.hal0() as pulls:
        error = await refused(pulls)

    assert error["code"] == "model.checksum"
    assert f"{len(GGUF) + 1} bytes are published" in error["message"]
    assert await place.in_place() == []


async def test_a_file_that_changes_meanwhile_is_begun_anew(place: Place) -> None:
    place.hub.digests = False
    changed = demo.build()[:-4] + b"\x00\x00\x00\x00"

    def change(made: Hub, _request: web.Request) -> None:
        made.files[FILE], made.etag = changed, '"2"'

    place.hub.faults.extend([Cut(0), Cut(50_000), change])

    async with place.hal0(patience_s=5.0) as pulls:
        assert (await pulled(pulls)).view.state is JobState.DONE

    assert await place.model() == changed


async def test_a_file_that_changes_again_and_again_is_given_up(place: Place) -> None:
    def change(made: Hub, _request: web.Request) -> None:
        made.etag = f'"{len(made.asked)}"'

    place.hub.faults.extend([change] * 100)

    async with place.hal0() as pulls:
        assert (await refused(pulls))["code"] == "model.checksum"

    assert await place.in_place() == []


@pytest.mark.parametrize("said", ["bytes 0-9/10", "bytes */5", "nonsense", f"bytes 5-{len(GGUF) - 1}/{len(GGUF)}"])
async def test_a_range_that_was_not_asked_for_is_not_taken(place: Place, said: str) -> None:
    def lie(_hub: Hub, request: web.Request) -> web.Response | None:
        if request.headers["Range"] == "bytes=0-0":
            return None
        return web.Response(status=206, body=b"x" * 100, headers={"Content-Range": said})

    place.hub.faults.extend([lie] * 100)

    async with place.hal0() as pulls:
        assert (await refused(pulls))["code"] == "model.checksum"

    assert await place.in_place() == []


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (status(403, X_Error_Code="GatedRepo"), "pull.gated", "consent to a licence: give it at https://"),
        (status(401, X_Error_Code="GatedRepo"), "pull.gated", "HF_TOKEN"),
        (status(401), "pull.gated", "private, or not there"),
        (status(404), "model.not_found", "does not have it"),
        (status(400), "pull.failed", "answered 400"),
    ],
)
async def test_a_hub_that_refuses_is_quoted(place: Place, answer: Any, code: str, words: str) -> None:
    place.hub.listing = answer
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error, match=words) as caught:
            await pulls.start(PullRequest(model="acme/tiny"))
    assert caught.value.code == code

    place.hub.listing = None
    place.hub.faults.append(answer)
    async with place.hal0() as pulls:
        assert (await refused(pulls))["code"] == code
    assert await place.in_place() == []


async def test_a_pickle_is_refused_by_name_and_by_content(place: Place) -> None:
    place.hub.files = {"model.ckpt": PICKLE}
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error) as caught:
            await pulls.start(PullRequest(model="acme/tiny"))
        assert caught.value.code == "model.unsafe_format"

        place.hub.files = {"model.safetensors": PICKLE}
        assert (await refused(pulls))["code"] == "model.unsafe_format"
    assert await place.in_place() == []
    assert await partial(place) == []


async def test_what_is_no_model_is_not_put_in_place(place: Place) -> None:
    place.hub.files = {"m.gguf": GGUF[: len(GGUF) // 2]}
    async with place.hal0() as pulls:
        error = await refused(pulls)

    assert error["code"] == "model.checksum"
    assert "truncated" in error["message"]
    assert await place.in_place() == []


async def test_a_disk_that_is_too_small_is_seen_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(place.folder)._replace(free=1000)
    monkeypatch.setattr("hal0.pulls.download.shutil.disk_usage", lambda _path: usage)

    async with place.hal0() as pulls:
        error = await refused(pulls)

    assert error["code"] == "pull.disk_full"
    assert error["details"]["free_bytes"] == 1000
    assert place.hub.asked == []


async def test_a_size_that_only_the_server_knows_is_held_against_the_disk_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place.folder)._replace(free=(256 << 20) + 1000)
    monkeypatch.setattr("hal0.pulls.download.shutil.disk_usage", lambda _path: usage)

    async with place.hal0() as pulls:
        error = await refused(pulls, f"http://localhost:{place.hub.port}/plain/{FILE}")

    assert error["code"] == "pull.disk_full"
    assert error["details"]["needed_bytes"] == len(GGUF)


async def test_a_disk_that_fills_up_keeps_what_came(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    async with place.hal0() as pulls:
        with monkeypatch.context() as patched:
            patched.setattr("hal0.pulls.transfer.write_at", full)
            assert (await refused(pulls))["code"] == "pull.disk_full"
        (kept,) = pulls.views()

        job = await pulls.resume(kept.id)
        await job.wait()

        assert (job.view.state, job.view.error) == (JobState.DONE, None)
    assert await place.model() == GGUF


@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254/latest/m.gguf", "http://[fe80::1]/m.gguf", "http://100.100.100.200/m.gguf"],
)
async def test_link_local_and_metadata_addresses_are_refused(place: Place, address: str) -> None:
    async with place.hal0() as pulls:
        assert (await refused(pulls, address))["code"] == "pull.address_refused"
        (view,) = pulls.views()
        await pulls.cancel(view.id)

        place.hub.faults.append(lambda _h, _r: web.Response(status=302, headers={"Location": address}))
        assert (await refused(pulls))["code"] == "pull.address_refused"
    assert await place.in_place() == []


@pytest.mark.parametrize("kind", ["fifo", "loop", "crowd"])
async def test_a_path_that_is_no_model_is_told_at_once_and_never_waited_for(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("hal0.pulls.planning._MOST_FILES", 3)
    path = tmp_path / "m.gguf"

    def make() -> None:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "loop":
            path.symlink_to(path)
        else:
            path.mkdir()
            for n in range(5):
                (path / f"{n}.txt").touch()

    await asyncio.to_thread(make)
    async with place.hal0() as pulls, asyncio.timeout(5):
        with pytest.raises(Hal0Error, match=str(path)) as caught:
            await pulls.start(PullRequest(model=str(path)))
    assert caught.value.code == "model.not_found"


@pytest.mark.parametrize("size", ["9" * 5000, "*", "-1"])
async def test_a_size_that_is_no_number_of_bytes_is_a_typed_error(place: Place, size: str) -> None:
    """Python refuses to read the longest of these."""
    place.hub.files["m.gguf"] = GGUF
    said = {"Content-Range": f"bytes 0-0/{size}"}
    place.hub.faults.append(lambda *_: web.Response(status=206, headers=said, body=b"x"))
    async with place.hal0(patience_s=0.1) as pulls:
        error = await refused(pulls, f"http://localhost:{place.hub.port}/plain/m.gguf")
    assert (error["code"], await place.in_place()) == ("pull.failed", [])


async def test_what_a_hub_says_of_itself_is_kept_in_a_line(place: Place) -> None:
    words = {"sha": "../" * 99, "cardData": {"license": "\x1b[31mmit\n" + "x" * 999}}
    place.hub.listing = lambda *_: web.json_response(words)
    async with place.hal0() as pulls:
        draft = await pulls.looking.drafted(PullRequest(model="acme/tiny"))
    assert draft.license == "[31mmit" + "x" * 93
    assert draft.source["revision"] == "main"


async def test_a_repository_s_files_stay_below_the_model(place: Place) -> None:
    place.hub.files = {"../../etc/x.gguf": GGUF, "/abs.gguf": GGUF, "a/.hidden/y.gguf": GGUF}
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error) as caught:
            await pulls.start(PullRequest(model="acme/tiny"))
    assert caught.value.code == "model.not_found"


async def test_somebody_else_s_file_of_this_name_is_left_alone(place: Place) -> None:
    await asyncio.to_thread(place.store.mkdir)
    await asyncio.to_thread((place.store / FILE).write_bytes, b"mine")

    async with place.hal0() as pulls:
        assert (await pulled(pulls)).view.state is JobState.DONE

    assert await asyncio.to_thread((place.store / FILE).read_bytes) == b"mine"
    assert await asyncio.to_thread((place.store / MODEL / FILE).read_bytes) == GGUF


def test_the_token_is_for_the_hub_over_https_alone() -> None:
    from yarl import URL

    from hal0.pulls.asking import Hub as Known

    known = Known("https://hub.example", "secret")
    shown: Callable[[str], bool] = lambda url: "Authorization" in known.headers(URL(url))  # noqa: E731

    assert shown("https://hub.example/a/b/resolve/main/m.gguf")
    assert not shown("http://hub.example/a")
    assert not shown("https://hub.example:8443/a")
    assert not shown("https://cdn.hub.example/a")
    assert not shown("https://hub.example.evil/a")
    assert "secret" not in repr(known)


# ---- a disk that is full at the worst moment ----


def full(*_args: object, **_named: object) -> None:
    raise OSError(28, "No space left on device")


async def test_a_note_that_cannot_be_written_ends_the_pull_instead_of_only_the_noting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.pulls.transfer._NOTE_S", 0.01)
    monkeypatch.setattr("hal0.pulls.transfer._BATCH_S", 0.01)
    place.hub.pace = 0.05
    async with place.hal0() as pulls:
        with monkeypatch.context() as patched:
            patched.setattr("hal0.pulls.part.write_atomic", full)
            error = await refused(pulls)

        assert error["code"] == "pull.disk_full"
        assert len(place.hub.files[FILE]) > pulls.views()[0].pace.done_bytes > 0


async def test_a_pull_is_given_up_also_when_the_disk_is_full(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.hal0() as pulls:
        job = await begun(place, pulls)
        with monkeypatch.context() as patched:
            patched.setattr("hal0.pulls.part.write_atomic", full)
            await pulls.cancel(job.view.id)

        assert (job.view.state, pulls.views()) == (JobState.CANCELLED, [])
    assert await asyncio.to_thread(lambda: list(place.store.glob(".pulls/*"))) == []


async def test_a_disk_that_is_full_at_the_last_step_is_told_as_that(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.pulls.placing.move", full)
    async with place.hal0() as pulls:
        assert (await refused(pulls))["code"] == "pull.disk_full"


def test_a_file_that_is_called_like_the_plan_does_not_replace_it(tmp_path: Path) -> None:
    kept, part = tmp_path / "plan.json", tmp_path / "0.part"
    kept.write_text("the plan")
    part.write_text("{}")

    placing.stage(part, tmp_path / "files" / "m" / "plan.json", allow_pickle=False)

    assert kept.read_text() == "the plan"
    assert (tmp_path / "files" / "m" / "plan.json").read_text() == "{}"


def test_a_server_that_says_now_is_not_asked_without_a_pause() -> None:
    with pytest.raises(Again) as caught:
        judge("it", 429, {"Retry-After": "0"}, repo=None, token=False)

    assert caught.value.wait_s is None
