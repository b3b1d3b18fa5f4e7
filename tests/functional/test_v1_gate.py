"""The hold contract over real sockets: one load for everyone, honest refusals, signs of life."""

import asyncio
import math
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from hal0.lib import jsonio
from hal0.slots.handle import SlotFailure
from hal0.vocab import FailureClass, Phase, Want
from tests.fakes.backend import Talk, delta
from tests.fakes.slots import LOADING, READY, settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import SIGN_OF_LIFE, raw

CHAT = "/v1/chat/completions"


async def test_200_first_requests_are_one_load_and_200_answers(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False) as w:
        slot = w.slots["primary"]

        async def ask() -> int:
            async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
                assert (await answer.json())["object"] == "chat.completion"
                return answer.status

        asking = [asyncio.ensure_future(ask()) for _ in range(200)]
        await settled(lambda: w.dispatcher.waiting(slot.name) == 200)
        assert slot.loads == 1
        slot.ready(w.endpoint)
        assert await asyncio.gather(*asking) == [200] * 200
        assert slot.loads == 1
        assert w.dispatcher.waiting(slot.name) == 0
        assert slot.in_flight == 0


async def test_a_request_that_may_not_wait_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False) as w:
        slot = w.slots["primary"]
        slot.become(expected_load_s=17.2)
        async with w.http.post(w.url + CHAT, json=w.chat(), headers={"X-Hal0-Hold": "5"}) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (503, "slot.loading")
            assert answer.headers["Retry-After"] == "18"
            assert answer.headers["x-should-retry"] == "true"
            assert error["details"]["slot"] == "primary"
            assert error["details"]["retry_after_s"] == 17.2
        assert slot.loads == 1  # it was asked for all the same


async def test_a_hold_that_runs_out_is_a_refusal(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False, hold_s=0.05) as w:
        async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "slot.loading")
        assert w.dispatcher.waiting(w.slots["primary"].name) == 0


@pytest.mark.parametrize("text", ["-1", "601", "1.5", "soon", "9" * 5000])
async def test_a_hold_header_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    async with world(tmp_path) as w, w.http.post(w.url + CHAT, json={}, headers={"X-Hal0-Hold": text}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "request.invalid")


async def test_waiters_learn_that_the_load_failed(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False) as w:
        slot = w.slots["primary"]
        asking = asyncio.ensure_future(w.http.post(w.url + CHAT, json=w.chat()))
        await settled(lambda: slot.loads == 1)
        slot.failed(SlotFailure(FailureClass.PERMANENT, "model.checksum", "the file is cut short", 0.0, settled=True))
        async with await asking as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (502, "slot.load_failed")
            assert "the file is cut short" in error["message"]


async def test_waiters_learn_that_the_load_was_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False) as w:
        slot = w.slots["primary"]
        asking = asyncio.ensure_future(w.http.post(w.url + CHAT, json=w.chat()))
        await settled(lambda: slot.loads == 1)
        slot.become(**LOADING)
        await settled(lambda: w.dispatcher.waiting(slot.name) == 1)
        await asyncio.sleep(0)
        slot.become(phase=Phase.UNLOADING, want=Want.UNLOADED)
        async with await asking as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "slot.load_cancelled")


async def test_a_client_that_leaves_leaves_the_line_and_the_load_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False) as w:
        slot = w.slots["primary"]
        async with raw(w.port) as client:
            await client.post(CHAT, w.chat())
            await settled(lambda: w.dispatcher.waiting(slot.name) == 1)
            client.leave()
            await settled(lambda: w.dispatcher.waiting(slot.name) == 0, within_s=0.1)
        assert slot.snapshot().phase is Phase.STARTING
        await settled(lambda: len(list(w.decisions)) == 1)
        assert next(iter(w.decisions)).status == 499


def _present(w: World, number: int) -> bool:
    slot = w.slots["primary"]
    return slot.in_flight + w.dispatcher.waiting(slot.name) == number


async def test_a_full_slot_takes_requests_in_order_and_refuses_beyond_its_queue(tmp_path: Path) -> None:
    release = asyncio.Event()
    served: list[int] = []

    async def behave(talk: Talk) -> None:
        served.append(jsonio.loads(talk.seen.body)["n"])
        await release.wait()
        await talk.json({"ok": True})

    async with world(tmp_path) as w:
        slot = w.slots["primary"]
        slot.become(max_inflight=1, queue_limit=3)
        w.backend.behave("fake-chat", behave)
        asking = []
        for n in range(4):
            asking.append(asyncio.ensure_future(w.http.post(w.url + CHAT, json=w.chat(n=n))))
            await settled(partial(_present, w, n + 1))
        async with w.http.post(w.url + CHAT, json=w.chat(n=9)) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (429, "slot.queue_full")
        release.set()
        answers = await asyncio.gather(*asking)
        assert [answer.headers.get("X-Hal0-Queue-Position") for answer in answers] == [None, "1", "2", "3"]
        assert served == [0, 1, 2, 3]
        for answer in answers:
            await answer.read()


async def test_a_full_queue_says_when_to_come_back_by_what_the_slot_took_lately(tmp_path: Path) -> None:
    async def behave(talk: Talk) -> None:
        await asyncio.sleep(jsonio.loads(talk.seen.body)["s"])
        await talk.json({"ok": True})

    async with world(tmp_path) as w:
        slot = w.slots["primary"]
        slot.become(max_inflight=1, queue_limit=0)
        w.backend.behave("fake-chat", behave)
        began = asyncio.get_running_loop().time()
        async with w.http.post(w.url + CHAT, json=w.chat(s=0.1)) as answer:
            assert answer.status == 200
        await settled(partial(_present, w, 0))
        took_s = asyncio.get_running_loop().time() - began
        busy = asyncio.ensure_future(w.http.post(w.url + CHAT, json=w.chat(s=3600)))
        await settled(partial(_present, w, 1))
        async with w.http.post(w.url + CHAT, json=w.chat(s=0)) as answer:
            error = (await answer.json())["error"]
            retry_s = error["details"]["retry_after_s"]
            assert (error["code"], answer.headers["Retry-After"]) == ("slot.queue_full", str(math.ceil(retry_s)))
            assert 0.1 <= retry_s <= took_s + 0.001
        busy.cancel()


async def test_a_waiting_stream_shows_signs_of_life_and_then_its_answer(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False, keepalive_s=0.03) as w, raw(w.port) as client, asyncio.timeout(5):
        await client.post(CHAT, w.chat(stream=True))
        head = await client.head()
        assert b" 200 " in head
        assert b"text/event-stream" in head
        for _ in range(3):
            assert (await client.reader.readuntil(b"\n\n")).endswith(SIGN_OF_LIFE)
        w.slots["primary"].ready(w.endpoint)
        body = b""
        while b"[DONE]" not in body:
            body += await client.reader.readuntil(b"\n\n")
        assert body.count(b"data: {") == 4
        assert b'"content":"one"' in body


async def test_a_failure_after_signs_of_life_is_one_event_with_the_true_status(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False, keepalive_s=0.03, hold_stream_s=0.2) as w, raw(w.port) as client:
        await client.post(CHAT, w.chat(stream=True))
        text = await client.rest()
        assert SIGN_OF_LIFE in text
        event = jsonio.loads(text.split(b"data: ", 1)[1].split(b"\n\n")[0])
        assert event["error"]["code"] == "slot.loading"
        assert event["error"]["status"] == 503
        assert event["error"]["retry_after_s"] > 0
        assert not text.endswith(b"0\r\n\r\n")
        (record,) = w.decisions
        assert record.status == 503


async def test_an_engines_error_after_signs_of_life_is_one_event(tmp_path: Path) -> None:
    async def behave(talk: Talk) -> None:
        await asyncio.sleep(0.1)
        await talk.json({"error": {"message": "context too long"}}, "400 Bad Request")

    async with world(tmp_path, keepalive_s=0.03) as w, raw(w.port) as client:
        w.backend.behave("fake-chat", behave)
        await client.post(CHAT, w.chat(stream=True))
        text = await client.rest()
        assert b"context too long" in text
        (record,) = w.decisions
        assert record.status == 400


async def test_comments_inside_a_stream_stand_only_between_events(tmp_path: Path) -> None:
    heard = asyncio.Event()

    async def behave(talk: Talk) -> None:
        await talk.open_events()
        await talk.chunk(delta("a"))
        await heard.wait()
        await talk.chunk(b"data: {")
        await asyncio.sleep(0.15)
        await talk.chunk(b"}\n\n")
        await talk.end()

    async with world(tmp_path, keepalive_s=0.03) as w:
        w.backend.behave("fake-chat", behave)
        async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
            assert await answer.content.readuntil(SIGN_OF_LIFE) == delta("a") + SIGN_OF_LIFE
            heard.set()
            assert [part for part in (await answer.content.read()).split(SIGN_OF_LIFE) if part] == [b"data: {}\n\n"]


async def test_a_stream_that_says_its_length_has_room_for_comments_too(tmp_path: Path) -> None:
    """Else they would count for its bytes, and its own last ones for the next answer."""

    heard = asyncio.Event()

    async def behave(talk: Talk) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
        await talk.raw(head % len(delta("a") + delta("b")) + delta("a"))
        await heard.wait()
        heard.clear()
        await talk.raw(delta("b"))

    async with world(tmp_path, keepalive_s=0.03) as w:
        w.backend.behave("fake-chat", behave)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
            for _ in range(2):
                async with http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
                    text = b"".join([await answer.content.readuntil(SIGN_OF_LIFE) for _ in range(2)])
                    heard.set()
                    text += await answer.content.read()
                assert text.replace(SIGN_OF_LIFE, b"") == delta("a") + delta("b")


async def test_without_keepalive_streams_are_byte_exact(tmp_path: Path) -> None:
    async def behave(talk: Talk) -> None:
        await asyncio.sleep(0.1)
        await talk.open_events()
        await talk.chunk(delta("a"))
        await asyncio.sleep(0.1)
        await talk.end()

    async with world(tmp_path, keepalive_s=0) as w:
        w.backend.behave("fake-chat", behave)
        async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
            assert await answer.read() == delta("a")


async def test_a_crash_loop_says_when_the_next_try_is(tmp_path: Path) -> None:
    async with world(tmp_path, loaded=False) as w:
        failure = SlotFailure(FailureClass.TRANSIENT, "slot.exited", "killed by signal 9", 0.0, settled=True)
        w.slots["primary"].failed(failure, next_attempt_at=w.dispatcher.clock.now() + 30)
        async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "slot.crash_looping")
            assert 28 <= int(answer.headers["Retry-After"]) <= 30


async def test_a_swap_holds_requests_until_the_new_model_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        slot = w.slots["primary"]
        slot.become(phase=Phase.UNLOADING, endpoint=None)
        asking = asyncio.ensure_future(w.http.post(w.url + CHAT, json=w.chat(model="primary")))
        await settled(lambda: w.dispatcher.waiting(slot.name) == 1)
        slot.become(**LOADING)
        slot.become(**READY, endpoint=w.endpoint)
        async with await asking as answer:
            assert answer.status == 200
        assert slot.loads == 0


async def test_a_stream_that_waits_for_its_slots_turn_shows_signs_of_life_and_is_recorded(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def behave(talk: Talk) -> None:
        await release.wait()
        await talk.json({"data": []})

    async with world(tmp_path, keepalive_s=0.03, min_residency_s=0) as w, raw(w.port) as client, asyncio.timeout(5):
        chat, embed = w.slots["primary"], w.slots["embed"]
        w.slots.fits = lambda slots: len(slots) <= 1
        w.backend.behave("embed", behave)
        chat.become(phase=Phase.OFFLINE, want=Want.UNLOADED, endpoint=None)
        embedding = asyncio.ensure_future(w.http.post(f"{w.url}/v1/embeddings", json={"model": "embed", "input": "x"}))
        await settled(lambda: embed.in_flight == 1)
        await client.post(CHAT, w.chat(model="primary", stream=True))
        assert b" 200 " in await client.head()
        for _ in range(3):
            assert (await client.reader.readuntil(b"\n\n")).endswith(SIGN_OF_LIFE)
        assert w.slots.switched == []  # the other one is answering
        release.set()
        async with await embedding as answer:
            assert answer.status == 200
        await settled(lambda: chat.snapshot().phase is Phase.STARTING)
        assert w.slots.switched == [("primary", {"embed"})]
        chat.ready(w.endpoint)
        body = b""
        while b"[DONE]" not in body:
            body += await client.reader.readuntil(b"\n\n")
        await settled(lambda: len(list(w.decisions)) == 2)
        (record,) = [record for record in w.decisions if record.target == "primary"]
        assert (record.status, record.queue_position) == (200, 1)
        assert 90 <= record.turn_ms <= record.held_ms
        assert chat.queues == [1, 0]


async def test_a_request_that_may_not_wait_for_a_turn_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with world(tmp_path, min_residency_s=20) as w:
        chat, embed = w.slots["primary"], w.slots["embed"]
        w.slots.fits = lambda slots: len(slots) <= 1
        chat.become(phase=Phase.OFFLINE, want=Want.UNLOADED, endpoint=None, expected_load_s=7.0)
        embed.become(ready_at=w.dispatcher.clock.now())
        async with w.http.post(w.url + CHAT, json=w.chat(model="primary"), headers={"X-Hal0-Hold": "10"}) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (503, "slot.loading")
            assert 26 <= int(answer.headers["Retry-After"]) <= 27
            assert error["details"].pop("retry_after_s") == pytest.approx(27, abs=1)
            progress = error["details"].pop("progress")
            assert (progress["phase"], progress["message"]) == ("waiting", "other slots have the memory")
            assert error["details"] == {"slot": "primary", "state": "offline", "position": 1}
