"""Several upstreams, over real sockets: who is asked when one fails, whose lists count, and no circles."""

import asyncio
import statistics
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hal0.config.root import RootConfig
from hal0.lib import jsonio
from tests.fakes.backend import Backend, Talk, delta, running
from tests.fakes.slots import settled
from tests.functional.dispatch_app import world
from tests.functional.raw_client import raw
from tests.functional.upstream_app import cut, garbage, hang, house, post, posts, refuse_429, table
from tests.ports import lease_block

# Another upstream.


def refuses(status: str) -> Callable[[Talk], Any]:
    async def behaviour(talk: Talk) -> None:
        await talk.json({"error": status}, status)

    return behaviour


_REFUSALS = ("401 Unauthorized", "402 Payment Required", "404 Not Found", "529 Overloaded")


@pytest.mark.parametrize("behaviour", [cut, garbage, refuse_429, *map(refuses, _REFUSALS)])
async def test_another_upstream_is_asked_while_no_answer_has_begun(
    tmp_path: Path, behaviour: Callable[[Talk], Any]
) -> None:
    async with running() as far, running() as near, house(tmp_path, far, near=near) as it:
        far.behave("fake", behaviour)
        status, headers, _ = await post(it, it.chat("far/fake", stream=True))
        assert (status, headers["X-Hal0-Upstream"]) == (200, "near")
        assert len(posts(near)) == 1
        assert posts(near)[0].header("Authorization") is None  # each has its own key
        record = list(it.decisions)[-1]
        assert record.target == "near"
        assert record.tried[-1].fact.startswith("'far' did not take it: ")


async def test_one_that_may_be_working_on_it_is_not_asked_for_again_elsewhere(tmp_path: Path) -> None:
    async with (
        running() as far,
        running() as near,
        house(tmp_path, far, near=near, first_byte_timeout_s=0.3, connect_timeout_s=1.0) as it,
    ):
        far.behave("fake", hang)
        assert (await post(it, it.chat("far/fake")))[0] == 504
        assert posts(near) == []


async def test_the_last_ones_answer_is_the_clients(tmp_path: Path) -> None:
    async with running() as far, running() as near, house(tmp_path, far, near=near) as it:
        far.behave("fake", cut)
        near.behave("fake", refuse_429)
        status, headers, body = await post(it, it.chat("far/fake"))
        assert (status, headers["Retry-After"], body) == (429, "9", b'{"error":"slow down"}')


async def test_one_that_keeps_failing_is_left_alone_and_costs_nothing(tmp_path: Path) -> None:
    async with running() as far, house(tmp_path, far) as it:
        far.behave("fake", cut)
        for _ in range(5):
            assert (await post(it, it.chat("far/fake")))[0] == 502
        before = len(posts(far))
        status, headers, body = await post(it, it.chat("far/fake"))
        assert (status, jsonio.loads(body)["error"]["code"]) == (502, "upstream.unreachable")
        assert 1 <= int(headers["Retry-After"]) <= 10
        assert len(posts(far)) == before
        async with it.http.get(f"{it.url}/v1/models/far/fake") as response:
            assert (await response.json())["status"] == "offline"


# Lists.


async def test_a_model_nobody_knew_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    all_here = asyncio.Event()

    async def lists_once_all_wait(talk: Talk) -> None:
        await all_here.wait()
        await talk.json({"data": [{"id": "fake"}]})

    async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far)}}) as it:
        prefetch = it.upstreams.prefetch

        async def counted(wanted: str) -> frozenset[str]:
            waiting.append(1)
            return await prefetch(wanted)

        monkeypatch.setattr(it.upstreams, "prefetch", counted)
        far.listing = lists_once_all_wait
        asking = [asyncio.create_task(post(it, it.chat("fake"))) for _ in range(5)]
        await settled(lambda: len(waiting) == 5)
        all_here.set()
        answers = await asyncio.gather(*asking)
        assert {headers["X-Hal0-Rule"] for _, headers, _ in answers} == {"prefetch"}
        assert len([seen for seen in far.seen if seen.line.startswith("GET /v1/models ")]) == 1
        assert (await post(it, it.chat("fake")))[1]["X-Hal0-Rule"] == "passthrough"
        assert (await post(it, it.chat("unknown")))[1]["X-Hal0-Slot"] == "primary"


@pytest.mark.parametrize(("model", "target"), [("fake", "far"), ("unknown", "primary")])
async def test_waiting_for_lists_is_no_overhead_of_hal0s_and_is_told(tmp_path: Path, model: str, target: str) -> None:
    async def slow(talk: Talk) -> None:
        await asyncio.sleep(0.3)
        await talk.json({"data": [{"id": "fake"}]})

    with lease_block() as ports:
        dead = {"base_url": f"http://127.0.0.1:{ports[0]}/v1"}
        async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far), "dead": dead}}) as it:
            far.listing = slow
            await post(it, it.chat(model))
            (record,) = it.decisions
            assert record.target == target
            assert record.overhead_ms is not None
            assert record.total_ms - record.overhead_ms >= 300
            fact = {tried.rule: tried.fact for tried in record.tried}["prefetch"]
            assert fact.startswith("asked for their models now: ")
            assert target == "far" or fact.endswith("'far' without 'unknown'; no list came from 'dead'")


async def test_a_client_that_leaves_while_lists_are_asked_for_is_felt_at_once(tmp_path: Path) -> None:
    async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far)}}) as it, raw(it.port) as client:
        far.listing = hang
        await client.post("/v1/chat/completions", it.chat("unheard-of"))
        await settled(lambda: bool(far.seen))
        client.leave()
        await settled(lambda: [record.status for record in it.decisions] == [499], within_s=0.1)
        assert posts(far) == it.backend.seen == []


async def test_a_model_that_the_configuration_names_is_answered_by_no_other(tmp_path: Path) -> None:
    """Its upstream was never reached, so nobody has seen a list; whose model it is, is known all the same."""
    with lease_block() as ports:
        dead = {"base_url": f"http://127.0.0.1:{ports[0]}/v1", "models": ["gpt"], "prefix": "far/"}
        async with world(tmp_path, root={"upstreams": {"dead": dead}}) as it:
            for _ in range(2):
                status, _, body = await post(it, it.chat("far/gpt"))
                assert (status, jsonio.loads(body)["error"]["code"]) == (502, "upstream.unreachable")
            assert (await post(it, it.chat("gpt")))[1]["X-Hal0-Slot"] == "primary"


async def test_no_upstream_slows_a_request_that_does_not_need_it(tmp_path: Path) -> None:
    async def never_list(talk: Talk) -> None:
        await asyncio.sleep(3600)

    async def liar(talk: Talk) -> None:
        names = ["primary", "fake-chat", "on-disk", "embed"]
        await talk.json({"data": [{"id": name} for name in names]})

    with lease_block() as ports:
        async with running() as hangs, running() as lies, running() as talks:
            hangs.listing, lies.listing, talks.listing = never_list, liar, garbage
            dead = {"base_url": f"http://127.0.0.1:{ports[0]}/v1"}
            upstreams = {"hangs": table(hangs), "lies": table(lies), "talks": table(talks), "dead": dead}
            async with world(tmp_path, root={"upstreams": upstreams}) as it:
                loop = asyncio.get_running_loop()

                async def listed() -> float:
                    began = loop.time()
                    async with it.http.get(f"{it.url}/v1/models") as response:
                        await response.read()
                    return loop.time() - began

                alone = [await listed() for _ in range(5)]
                asked = asyncio.ensure_future(it.upstreams.prefetch())
                await settled(lambda: bool(hangs.seen))
                began = loop.time()
                for model in ({"model": "primary"}, {"model": "fake-chat"}, {}):
                    status, headers, _ = await post(it, {"messages": [], **model})
                    assert (status, headers["X-Hal0-Slot"]) == (200, "primary")
                assert loop.time() - began < 1.0
                beside = [await listed() for _ in range(5)]
                assert min(beside) < min(alone) + 0.02
                assert not asked.done(), "nobody waited for the one that never answers"
                await it.upstreams.close()
                await asked


async def test_models_of_upstreams_are_listed_with_their_owner(tmp_path: Path) -> None:
    async with running() as far, house(tmp_path, far) as it:
        async with it.http.get(f"{it.url}/v1/models") as response:
            listed = {model["id"]: model for model in (await response.json())["data"]}
        assert listed["far/fake"]["owned_by"] == listed["far/fake"]["upstream"] == "far"
        assert listed["fake-chat"]["owned_by"] == "hal0"


async def test_a_slot_may_stand_for_an_upstreams_model(tmp_path: Path) -> None:
    async with running() as far, world(tmp_path, root=_fronting(far)) as it:
        status, headers, _ = await post(it, {"messages": []})
        assert (status, headers["X-Hal0-Slot"], headers["X-Hal0-Upstream"]) == (200, "primary", "far")
        assert jsonio.loads(posts(far)[0].body) == {"model": "Their/Model:free", "messages": []}


@pytest.mark.parametrize(("model", "sent"), [("far/fake", "fake"), ("fake", "fake"), ("far/own", "far/own")])
async def test_such_a_slots_model_may_be_named_as_it_is_listed_here(tmp_path: Path, model: str, sent: str) -> None:
    async def listing(talk: Talk) -> None:
        await talk.json({"data": [{"id": "fake"}, {"id": "far/own"}]})

    async with running() as far:
        far.listing = listing
        slot = {"provider": "upstream", "upstream": "far", "model": model}
        root = {"upstreams": {"far": table(far, prefix="far/")}, "slots": {"primary": slot}}
        async with world(tmp_path, root=root) as it:
            await it.upstreams.prefetch()
            await post(it, it.chat("primary"))
            assert jsonio.loads(posts(far)[0].body)["model"] == sent


def _fronting(far: Backend) -> dict[str, Any]:
    slot = {"provider": "upstream", "upstream": "far", "model": "Their/Model:free"}
    return {"upstreams": {"far": table(far)}, "slots": {"primary": slot}}


async def test_what_such_a_slots_requests_leave_out_is_added(tmp_path: Path) -> None:
    async with running() as far, world(tmp_path, root=_fronting(far)) as it:
        it.slots["primary"].become(request_defaults={"temperature": 0.25, "top_p": 0.5})
        await post(it, b'{"top_p": 1.0, "messages": []}')
        sent = jsonio.loads(posts(far)[0].body)
        assert sent == {"model": "Their/Model:free", "messages": [], "temperature": 0.25, "top_p": 1.0}


# Another hal0.


async def test_two_hal0_and_no_circle(tmp_path: Path) -> None:
    async with world(tmp_path / "b", instance="bbbb") as b:
        root = {"upstreams": {"box": {"base_url": f"{b.url}/v1", "kind": "hal0", "prefix": "box/"}}}
        async with world(tmp_path / "a", root=root, instance="aaaa") as a:
            await a.upstreams.prefetch()
            status, headers, _ = await post(a, a.chat("box/fake-chat"))
            assert (status, headers["X-Hal0-Upstream"]) == (200, "box")
            assert b.backend.seen[-1].header("X-Hal0-Via") == "aaaa"
            # b gets a as its upstream: their lists do not grow into each other
            b.upstreams.apply(_root({"a": {"base_url": f"{a.url}/v1", "kind": "hal0", "prefix": "a/"}}))
            await b.upstreams.prefetch()
            await a.upstreams.refresh("box")
            assert {model.id for model in a.upstreams.named("box").models or ()} == {
                *("box/primary", "box/embed"),
                *("box/fake-chat", "box/fake-embed", "box/on-disk"),
            }
            # and a request that has been here is refused
            refused, _, body = await post(a, a.chat("box/fake-chat"), headers={"X-Hal0-Via": "cccc, aaaa"})
            assert (refused, jsonio.loads(body)["error"]["code"]) == (508, "upstream.loop")


def _root(upstreams: dict[str, Any]) -> RootConfig:
    return RootConfig.model_validate({"upstreams": upstreams})


async def breaks(talk: Talk) -> None:
    await talk.open_events()
    await talk.chunk(delta("one"))
    await asyncio.sleep(0.01)
    talk.break_off()


async def test_requests_that_go_wrong_elsewhere_slow_nobody_here(tmp_path: Path) -> None:
    """Ten at a time of every way to go wrong, again and again, beside requests for a slot and for a good upstream."""
    wrong = {"hang": hang, "garbage": garbage, "429": refuse_429, "cut": cut, "breaks": breaks}
    async with running() as bad, running() as good:
        bad.lists = list(wrong)
        for name, behaviour in wrong.items():
            bad.behave(name, behaviour)
        upstreams = {"good": table(good, prefix="good/")} | {
            name: table(bad, prefix=f"{name}/", models=[name]) for name in wrong
        }
        async with world(tmp_path, root={"upstreams": upstreams}) as it:
            await it.upstreams.prefetch()

            async def again(name: str) -> None:
                while True:
                    with suppress(aiohttp.ClientError):
                        await post(it, it.chat(f"{name}/{name}", stream=True))
                    await asyncio.sleep(0.05)

            loop = asyncio.get_running_loop()

            async def took(model: str) -> float:
                began = loop.time()
                status, _, _ = await post(it, it.chat(model))
                assert status == 200
                return loop.time() - began

            alone = [await took(model) for _ in range(20) for model in ("primary", "good/fake")]
            pests = [asyncio.create_task(again(name)) for name in wrong for _ in range(10)]
            await settled(lambda: all(it.upstreams.named(name).requests for name in wrong))
            beside = [await took(model) for _ in range(20) for model in ("primary", "good/fake")]
            for pest in pests:
                pest.cancel()
            await asyncio.gather(*pests, return_exceptions=True)
            assert it.upstreams.named("good").circuit.failures == 0
            assert it.slots["primary"].suspected == 0
            assert statistics.median(beside) <= statistics.median(alone) + 0.1, (alone, beside)
            assert max(beside) < 2.0
