"""Packed answers: hal0 asks for none where it may have to speak, and never speaks among packed bytes."""

import asyncio
import gzip
from pathlib import Path

import pytest

from tests.fakes.backend import DONE, Talk, delta, running
from tests.fakes.slots import settled
from tests.functional.raw_client import raw
from tests.functional.test_v1_upstreams import last_event
from tests.functional.upstream_app import house, post, posts


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_that_hal0_may_comment_is_asked_for_unpacked(tmp_path: Path, stream: bool) -> None:
    async with running() as far, house(tmp_path, far) as it:
        headers = {"Accept-Encoding": "gzip, deflate"}
        await post(it, it.chat("far/fake", stream=stream), headers=headers)
        await post(it, it.chat("primary", stream=stream), headers=headers)
        asked = [posts(far)[0].header("Accept-Encoding"), it.backend.seen[0].header("Accept-Encoding")]
        assert asked == (["identity"] * 2 if stream else ["gzip, deflate"] * 2)


@pytest.mark.parametrize("model", ["far/fake", "fake-chat"])
async def test_packed_bytes_never_follow_a_comment(tmp_path: Path, model: str) -> None:
    """The client was told that what comes is no packed stream."""
    told = asyncio.Event()

    async def packed(talk: Talk) -> None:
        """What servers do that see a client's Accept-Encoding, and some that do not."""
        await told.wait()
        body = gzip.compress(delta("one") + DONE)
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")
        await talk.raw(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async with running() as far, house(tmp_path, far, config={"keepalive_s": 0.05}) as it, raw(it.port) as client:
        far.behave("fake", packed)
        it.backend.behave("fake-chat", packed)
        await client.post("/v1/chat/completions", it.chat(model, stream=True))
        await client.comments(2)
        told.set()
        assert last_event(await client.rest())["code"] == "upstream.broken"


@pytest.mark.parametrize("model", ["far/fake", "fake-chat"])
async def test_nothing_of_hal0s_stands_in_a_packed_stream(tmp_path: Path, model: str) -> None:
    body = gzip.compress(delta("one"))

    async def breaks(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")
        await talk.raw(b"Transfer-Encoding: chunked\r\n\r\n")
        await talk.chunk(body + b"\n\n")  # as if between two events
        await asyncio.sleep(0.3)
        talk.break_off()

    async with running() as far, house(tmp_path, far, config={"keepalive_s": 0.1}) as it, raw(it.port) as client:
        far.behave("fake", breaks)
        it.backend.behave("fake-chat", breaks)
        await client.post("/v1/chat/completions", it.chat(model, stream=True))
        read = await client.rest()
        assert read.endswith(b"\r\n%b\n\n\r\n" % body)
        await settled(lambda: [record.code for record in it.decisions] == ["upstream.broken"])
