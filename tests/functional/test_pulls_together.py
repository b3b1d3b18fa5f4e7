"""Pulls that several want, begin, leave or give up at the same moment."""

import asyncio
import functools
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hal0.lib.aio import cancelled
from hal0.models import demo
from hal0.pulls import download, placing, plan
from hal0.pulls.bringing import Bringing
from hal0.pulls.pulls import Pulls
from hal0.vocab import By
from hal0.wire.jobs import JobState
from hal0.wire.pulls import PullRequest, PullState
from tests.fakes.hub import status
from tests.functional.pulling import FILE, GGUF, Place, begun
from tests.vloop import until


class Held:
    """What runs in a thread, and does not go on until it is told."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.go_on = threading.Event()
        self._work = work
        self._begun = threading.Event()

    def __call__(self, *args: Any) -> Any:
        self._begun.set()
        assert self.go_on.wait(10)
        return self._work(*args)

    def __get__(self, it: object, _kind: type) -> Callable[..., Any]:
        return functools.partial(self, it)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 10)


async def test_given_up_twice_at_once_a_pull_still_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(plan.Place.remove)
    monkeypatch.setattr(plan.Place, "remove", held)
    async with place.hal0() as pulls:
        job = await begun(place, pulls)
        assert job.on_cancel is not None
        job.on_cancel()
        await held.reached()
        job.on_cancel()
        await asyncio.sleep(0)
        held.go_on.set()

        async with asyncio.timeout(5):
            await job.wait()
        assert job.view.state is JobState.CANCELLED


async def test_given_up_while_it_pauses_nothing_of_it_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(plan.Place.save)
    async with place.hal0() as pulls:
        job = await begun(place, pulls)
        monkeypatch.setattr(plan.Place, "save", held)
        pausing = asyncio.create_task(pulls.pause(job.view.id))
        await held.reached()
        giving_up = asyncio.create_task(pulls.cancel(job.view.id))
        await asyncio.sleep(0)
        held.go_on.set()
        await asyncio.gather(pausing, giving_up)

        assert (job.view.state, pulls.views()) == (JobState.CANCELLED, [])
    assert await asyncio.to_thread(lambda: list(place.store.glob(".pulls/*"))) == []


async def test_two_models_of_one_file_name_do_not_replace_each_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(placing.record_of)
    monkeypatch.setattr("hal0.pulls.placing.record_of", held)
    async with place.hal0() as pulls:
        jobs = [await pulls.start(PullRequest(model="acme/tiny", id=name)) for name in ("one", "two")]
        await held.reached()
        await until(
            lambda: [it.view.progress and it.view.progress.message for it in jobs] == ["putting it in place"] * 2,
            within_s=10,
        )
        held.go_on.set()
        for job in jobs:
            await job.wait()

    assert await place.in_place() in (sorted([FILE, f"one/{FILE}"]), sorted([FILE, f"two/{FILE}"]))  # whoever was last


async def test_a_download_that_several_asked_for_goes_on_until_all_have_left(place: Place) -> None:
    place.hub.held = True
    async with place.hal0() as pulls:

        async def given() -> Pulls:
            return pulls

        bring = Bringing(given, lambda: True)
        one, two = (asyncio.create_task(bring("acme/tiny", By.OPERATOR, lambda *_: None)) for _ in range(2))
        await until(lambda: [it.wanted for it in pulls._pulls.values()] == [2], within_s=10)
        await cancelled(one)
        (view,) = pulls.views()
        assert view.state is not PullState.PAUSED
        await cancelled(two)
        (view,) = pulls.views()
        assert view.state is PullState.PAUSED

        place.hub.held = False
        assert await bring("acme/tiny", By.OPERATOR, lambda *_: None)
    assert await place.model() == GGUF


async def test_a_download_of_an_earlier_process_ends_with_the_last_who_wants_it(place: Place) -> None:
    async with place.hal0() as pulls:
        await begun(place, pulls, own=False)
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"), own=False)
        assert (await place.in_place(), job.ended) == ([], False)
        await pulls.leave(job)
        assert [it.state for it in pulls.views()] == [PullState.PAUSED]


@pytest.mark.parametrize("joins", [False, True])
async def test_a_download_that_was_asked_for_itself_goes_on_without_who_joined_it_also_over_a_restart(
    place: Place, *, joins: bool
) -> None:
    async with place.hal0() as pulls:
        await begun(place, pulls, own=not joins)
        if joins:  # what a load began is now wanted by an operator, too
            await pulls.start(PullRequest(model="acme/tiny"))
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"), By.REQUEST, own=False)
        await pulls.leave(job)
        assert [it.state for it in pulls.views()] != [PullState.PAUSED]
        place.hub.held = False
        assert (await job.wait()).state is JobState.DONE


async def test_what_was_paused_by_hand_pauses_again_with_the_load_that_went_on_with_it(place: Place) -> None:
    async with place.hal0() as pulls:
        job = await begun(place, pulls)
        await pulls.pause(job.view.id)
        job = await pulls.start(PullRequest(model="acme/tiny"), own=False)
        await pulls.leave(job)
        assert [it.state for it in pulls.views()] == [PullState.PAUSED]


async def test_what_is_noted_as_a_download_ends_is_not_begun_by_the_next_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(plan.Place.remove)
    monkeypatch.setattr(plan.Place, "remove", held)
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"), own=False)
        await held.reached()
        joining = asyncio.create_task(pulls.start(PullRequest(model="acme/tiny")))
        await asyncio.sleep(0.05)
        held.go_on.set()
        await asyncio.gather(joining, job.wait())
    assert await asyncio.to_thread(lambda: list(place.store.glob(".pulls/*"))) == []


async def test_who_leaves_as_a_pull_is_noted_takes_it_from_nobody_who_has_joined(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(plan.Place.save)
    monkeypatch.setattr(plan.Place, "save", held)
    async with place.hal0() as pulls:
        first = asyncio.create_task(pulls.start(PullRequest(model="acme/tiny")))
        await held.reached()
        job = await pulls.start(PullRequest(model="acme/tiny"))
        first.cancel()
        await asyncio.sleep(0)
        held.go_on.set()
        await asyncio.wait([first])
        await job.wait()

        assert (job.view.state, first.cancelled()) == (JobState.DONE, True)
    assert await place.model() == GGUF


@pytest.mark.parametrize("ending", ["pause", "cancel"])
async def test_a_pull_that_is_stopped_before_its_first_step_ends(place: Place, ending: str) -> None:
    async with place.hal0() as pulls:
        job = await begun(place, pulls)
        await pulls.pause(job.view.id)
        job = await pulls.resume(job.view.id)
        await getattr(pulls, ending)(job.view.id)

        assert job.ended
        assert [it.state for it in pulls.views()] == ([PullState.PAUSED] if ending == "pause" else [])


@pytest.mark.parametrize("ending", ["pause", "cancel"])
async def test_a_pull_that_is_stopped_as_its_failure_is_noted_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    held, save = Held(plan.Place.save), plan.Place.save

    def noted(where: plan.Place, what: plan.Plan) -> None:
        (held if what.state is PullState.FAILED else save)(where, what)

    monkeypatch.setattr(plan.Place, "save", noted)
    place.hub.faults.append(status(404))
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))
        await held.reached()
        stopping = asyncio.create_task(getattr(pulls, ending)(job.view.id))
        await asyncio.sleep(0)
        held.go_on.set()
        async with asyncio.timeout(5):
            await stopping
            await job.wait()
        kept = [it.state for it in pulls.views()]
        ended = (JobState.FAILED, [PullState.FAILED]) if ending == "pause" else (JobState.CANCELLED, [])
        assert (job.view.state, kept) == ended


async def test_a_pull_that_is_stopped_while_it_fails_writes_nothing_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor is closed then, and the number is another file's."""
    failing, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(task: asyncio.Task[Any]) -> None:
        failing.set()
        await go_on.wait()
        await cancelled(task)

    monkeypatch.setattr("hal0.pulls.transfer.cancelled", slowly)
    place.hub.held = True
    place.hub.faults.extend([lambda *_: None, status(404)])  # a look, and one of the ranges
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model="acme/tiny"))
        await failing.wait()
        pausing = asyncio.create_task(pulls.pause(job.view.id))
        await asyncio.sleep(0)
        go_on.set()
        await pausing
        running = {str(task.get_coro()) for task in asyncio.all_tasks()}
        assert not [it for it in running if "_lane" in it or "_noting" in it]


async def test_a_file_of_this_machine_that_is_replaced_meanwhile_is_no_mixture(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy, pieces = tmp_path / "m.gguf", download._piece, itertools.count()
    held = Held(copy)

    def second(*args: Any) -> int:
        return int((held if next(pieces) else copy)(*args))

    await asyncio.to_thread(source.write_bytes, GGUF[:-100_000] + bytes(100_000))
    monkeypatch.setattr(download, "_PIECE_BYTES", 50_000)
    async with place.hal0() as pulls:
        with monkeypatch.context() as patched:
            patched.setattr(download, "_piece", second)
            job = await pulls.start(PullRequest(model=str(source)))
            await held.reached()
            pausing = asyncio.create_task(pulls.pause(job.view.id))
            await asyncio.sleep(0)
            held.go_on.set()
            await pausing
        assert pulls.views()[0].pace.done_bytes == 50_000
        await asyncio.to_thread(source.write_bytes, GGUF)
        job = await pulls.resume(job.view.id)
        assert (await job.wait()).state is JobState.DONE
    (record,) = (await asyncio.to_thread(place.registry)).records()
    assert (record.sha256, record.source) == (demo.DIGEST, {"path": str(source)})


async def test_what_stands_still_comes_from_where_it_is_named_last(place: Place, tmp_path: Path) -> None:
    """Such as from a stick, which a hub that was out of reach told one to bring."""
    source = tmp_path / FILE
    await asyncio.to_thread(source.write_bytes, GGUF)
    async with place.hal0() as pulls:
        paused = await begun(place, pulls)
        await pulls.pause(paused.view.id)
        place.hub.listing = lambda *_: web.json_response({"sha": "b" * 40})  # it has moved on
        assert (await pulls.start(PullRequest(model="acme/tiny"))).view.id == paused.view.id  # it is the same file
        await pulls.pause(paused.view.id)

        job = await pulls.start(PullRequest(model=str(source)))
        assert (await job.wait()).state is JobState.DONE
        assert pulls.views() == []
    (record,) = (await asyncio.to_thread(place.registry)).records()
    assert record.source == {"path": str(source)}
