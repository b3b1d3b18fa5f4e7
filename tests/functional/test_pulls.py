"""Pulls against a hub that cuts and throttles: whatever happens on the way, the right file comes into place."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.registry import Registry
from hal0.pulls import placing
from hal0.pulls.pulls import Pulls
from hal0.wire.jobs import JobState
from hal0.wire.pulls import PullRequest, PullState
from tests.fakes.hub import Cut, status
from tests.functional.pulling import FILE, GGUF, ROOT, Place, partial, pulled, refused
from tests.unit.models.test_content import onnx
from tests.vloop import until

# ---- what goes well ----


async def test_a_model_of_the_hub_comes_in_ranges_and_is_remembered(place: Place) -> None:
    async with place.hal0() as pulls:
        job = await pulled(pulls)

        assert job.view.state is JobState.DONE
        assert pulls.views() == []
    assert await place.model() == GGUF
    assert await place.in_place() == [FILE]
    assert await partial(place) == []
    assert len(place.hub.asked) == 1 + 4  # a look, and four ranges
    assert all(asked.get("If-Range") == '"1"' for asked in place.hub.asked[1:])
    (record,) = (await asyncio.to_thread(place.registry)).records()
    assert (record.license, record.size_bytes) == ("apache-2.0", len(GGUF))
    assert record.source is not None
    assert (record.source["repo"], record.source["etag"]) == ("acme/tiny", '"1"')


async def test_a_file_of_any_address_is_held_against_the_digest_that_was_given(place: Place) -> None:
    async with place.hal0() as pulls:
        error = await refused(pulls, f"http://localhost:{place.hub.port}/plain/{FILE}", sha256="0" * 64)
        assert error["code"] == "model.checksum"
        assert await place.in_place() == []
        (kept,) = pulls.views()
        await pulls.cancel(kept.id)

        job = await pulled(pulls, f"http://localhost:{place.hub.port}/plain/{FILE}?download=true", sha256=demo.DIGEST)

        assert job.view.state is JobState.DONE
    assert await place.model() == GGUF


async def test_a_file_and_a_folder_of_this_machine(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"

    def write() -> None:
        (elsewhere / "Moonshine").mkdir(parents=True)
        for name in ("encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json"):
            (elsewhere / "Moonshine" / name).write_bytes(b"{}" if name.endswith("json") else onnx())
        (elsewhere / FILE).write_bytes(GGUF)

    await asyncio.to_thread(write)
    async with place.hal0() as pulls:
        assert (await pulled(pulls, str(elsewhere / FILE))).view.state is JobState.DONE
        assert (await pulled(pulls, str(elsewhere / "Moonshine"))).view.state is JobState.DONE

    assert await place.model() == GGUF
    assert await place.in_place() == [
        "moonshine/decoder_model_merged.onnx",
        "moonshine/encoder_model.onnx",
        "moonshine/tokenizer.json",
        FILE,
    ]


async def test_a_model_of_several_files_is_put_in_place_whole(place: Place) -> None:
    names = ("encoder_model.onnx", "decoder_model_merged.onnx")
    place.hub.files = {f"onnx/merged/tiny/float/{name}": onnx() for name in names}
    place.hub.files["onnx/merged/tiny/quantized/readme.txt"] = b"words"
    place.hub.faults.extend([Cut(0)] * 3)

    async with place.hal0() as pulls:
        assert (await pulled(pulls)).view.state is JobState.DONE

    assert await place.in_place() == [f"tiny-tiny-float/{name}" for name in sorted(names)]


async def test_progress_tells_bytes_speed_and_the_time_that_is_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.pulls.pulls._TELL_S", 0.01)
    place.hub.pace = 0.03
    seen = []
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))
        while not job.ended:
            await asyncio.sleep(0.02)
            if job.view.progress is not None and job.view.progress.pace is not None:
                seen.append(job.view.progress)

    paces = [progress.pace for progress in seen if progress.pace is not None]
    assert any(pace.bytes_per_s and pace.eta_s is not None for pace in paces)
    assert all(pace.total_bytes == len(GGUF) for pace in paces)
    assert [pace.done_bytes for pace in paces] == sorted(pace.done_bytes for pace in paces)


async def test_the_same_model_asked_for_twice_is_one_pull(place: Place) -> None:
    place.hub.held = True
    async with place.hal0() as pulls:
        first = await pulls.start(PullRequest(model="acme/tiny"))
        second = await pulls.start(PullRequest(model=f"acme/tiny/{FILE}"))
        place.hub.held = False
        await first.wait()

        assert first is second
        with pytest.raises(Hal0Error) as caught:
            await pulls.start(PullRequest(model="acme/tiny"))
    assert caught.value.code == "model.exists"


async def test_all_together_stay_below_the_rate_limit(place: Place) -> None:
    place.config["rate_limit"] = 2 * len(GGUF)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async with place.hal0() as pulls:
        assert (await pulled(pulls)).view.state is JobState.DONE

    assert loop.time() - began >= 0.18  # half a second, but for the burst at its begin


# ---- what is cut, and goes on ----


@pytest.mark.parametrize("ranges", [True, False])
async def test_cut_connections_are_taken_up_again(place: Place, ranges: bool) -> None:
    place.hub.ranges = ranges
    place.hub.faults.extend([Cut(0), *(Cut(n * 20_000) for n in range(6)), Cut(100)])

    async with place.hal0(patience_s=5.0) as pulls:
        assert (await pulled(pulls)).view.state is JobState.DONE

    assert await place.model() == GGUF
    if ranges:
        sent = [asked["Range"] for asked in place.hub.asked]
        assert len(set(sent)) > 5  # the rest was asked for, not all of it again


@pytest.mark.parametrize("code", [429, 500, 502, 503, 408])
async def test_a_server_that_is_busy_is_asked_again_when_it_says(place: Place, code: int) -> None:
    place.hub.faults.extend([status(code, Retry_After="0.01"), status(code)])

    async with place.hal0() as pulls:
        assert (await pulled(pulls)).view.state is JobState.DONE

    assert await place.model() == GGUF


async def test_a_server_that_stays_away_ends_the_pull_and_what_came_is_kept(place: Place) -> None:
    look, cut, away = (lambda *_: None), Cut(60_000), (status(500) for _ in range(5_000))
    place.hub.faults.extend([look, cut, *away])
    async with place.hal0(pause_s=(0.1, 0.1), patience_s=1.0) as pulls:
        error = await refused(pulls)

        assert error["code"] == "pull.failed"
        assert await place.in_place() == []
        (kept,) = pulls.views()
        assert (kept.state, kept.error) == (PullState.FAILED, error)
        assert kept.pace.done_bytes > 0
        place.hub.faults.clear()
        job = await pulls.resume(kept.id)
        await job.wait()

        assert job.view.state is JobState.DONE
        assert job.view.id == kept.id
    assert await place.model() == GGUF


async def test_a_pause_keeps_what_came_also_over_the_end_of_hal0(place: Place) -> None:
    place.hub.held = True
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))
        await arrived(pulls)
        await pulls.pause(job.view.id)

        assert job.view.state is JobState.INTERRUPTED
        assert "resume" in (job.view.note or "")
    place.hub.held = False
    async with place.hal0() as pulls:
        (kept,) = pulls.views()
        assert kept.state is PullState.PAUSED
        assert kept.pace.done_bytes > 0
        job = await pulls.resume(kept.id)
        await job.wait()

        assert job.view.state is JobState.DONE
    assert await place.model() == GGUF
    assert place.hub.asked[-1]["Range"].split("=")[1] != f"0-{len(GGUF) - 1}"


async def arrived(pulls: Pulls) -> None:
    """Some of it has come."""
    await until(lambda: pulls.views() and pulls.views()[0].pace.done_bytes, within_s=20)


async def test_cancelled_nothing_of_it_stays(place: Place) -> None:
    place.hub.held = True
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))
        await arrived(pulls)

        await pulls.cancel(job.view.id)

        assert job.view.state is JobState.CANCELLED
        assert pulls.views() == []
        with pytest.raises(Hal0Error, match="cannot find pull"):
            await pulls.resume(job.view.id)
    assert await asyncio.to_thread(lambda: list(place.store.glob(".pulls/*"))) == []


async def test_what_was_under_way_when_hal0_ended_goes_on_under_its_own_id(place: Place) -> None:
    place.hub.held = True
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))
        await arrived(pulls)
    place.hub.held = False

    async with place.hal0() as pulls:
        again = pulls._jobs.get(job.view.id)
        await again.wait()

        assert again.view.state is JobState.DONE
    assert await place.model() == GGUF


class _Killed(BaseException):
    """The process is gone: nothing tidies up after it."""


@pytest.mark.parametrize(
    ("where", "step", "done"),
    [
        (placing, "stage", False),
        (placing, "stage", True),
        (Registry, "remember", True),
        (placing, "move", True),
    ],
)
async def test_a_kill_at_any_of_the_last_steps_leaves_a_whole_model_or_none(
    place: Place, monkeypatch: pytest.MonkeyPatch, where: object, step: str, *, done: bool
) -> None:
    work = getattr(where, step)

    def killed(*args: object, **options: object) -> None:
        if done:
            work(*args, **options)
        raise _Killed

    async with place.hal0() as pulls:
        with monkeypatch.context() as patched:
            patched.setattr(where, step, killed)
            await pulls.start(PullRequest(model="acme/tiny"))
            (pull,) = pulls._pulls.values()
            assert pull.task is not None
            await asyncio.wait([pull.task])
            assert isinstance(pull.task.exception(), _Killed)
        assert await place.in_place() in ([], [FILE])
    async with place.hal0() as pulls:
        for view in pulls.views():
            assert (await pulls._jobs.get(view.id).wait()).state is JobState.DONE
    assert (await place.model(), await place.in_place()) == (GGUF, [FILE])
    assert await asyncio.to_thread(lambda: list(place.store.glob(".pulls/*"))) == []


_KILLED = """
import asyncio, sys
from pathlib import Path
from tests.functional.pulling import Place
from hal0.wire.pulls import PullRequest
from hal0.pulls import spans
from tests.fakes.hub import Hub

async def main():
    spans._WORTH_BYTES = 100_000
    place = Place(Path(sys.argv[1]), Hub({}, port=int(sys.argv[2])))
    async with place.hal0(patience_s=60.0) as pulls:
        if not pulls.views():
            await pulls.start(PullRequest(model="acme/tiny"))
        while True:
            print(pulls.views()[0].pace.done_bytes, flush=True)
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


async def test_kills_cost_what_was_not_noted_and_nothing_else(place: Place) -> None:
    place.hub.held = True
    begun = []
    for least in (0, 40_000, 80_000):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _KILLED, str(place.folder), str(place.hub.port), stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        begun.append(int(await process.stdout.readline()))
        while int(await process.stdout.readline()) <= begun[-1] + least:
            pass
        process.kill()
        await process.communicate()
    place.hub.held = False

    async with place.hal0() as pulls:
        (view,) = pulls.views()
        job = pulls._jobs.get(view.id)
        await job.wait()

        assert job.view.state is JobState.DONE
    assert await place.model() == GGUF
    assert await place.in_place() == [FILE]
    assert begun == sorted(begun)


@pytest.mark.parametrize("spoil", ["note", "part", "plan"])
async def test_leftovers_that_make_no_sense_are_not_believed(place: Place, spoil: str) -> None:
    place.hub.held = True
    async with place.hal0() as pulls:
        await pulls.start(PullRequest(model="acme/tiny"))
        await arrived(pulls)
    (part,) = await partial(place)
    match spoil:
        case "note":
            note = part.with_name(f"{part.name}.json")
            await asyncio.to_thread(note.write_text, '{"schema": 1, "size": 3, "spans": [[0, 2, 1]]}')
        case "part":
            await asyncio.to_thread(os.truncate, part, 10)
        case _:
            await asyncio.to_thread((part.parent / "plan.json").write_text, '{"id": "../../x"}')
    place.hub.held = False

    async with place.hal0() as pulls:
        for view in pulls.views():
            await pulls._jobs.get(view.id).wait()

        assert await place.in_place() == ([] if spoil == "plan" else [FILE])
    assert spoil == "plan" or await place.model() == GGUF
