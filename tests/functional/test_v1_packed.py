"""Packed answers: hal0 asks for none where it may have to speak, and never speaks among packed bytes."""

import asyncio
import gzip
import zlib
from pathlib import Path

import pytest

from tests.fakes.backend import DONE, Talk, delta, running
from tests.fakes.slots import settled
from tests.functional.raw_client import RawClient, raw
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


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"),
        ("br", "identity"),
        ("", "identity"),
    ],
)
async def test_an_upstream_packs_with_what_hal0_can_read(tmp_path: Path, accepted: str, asked: str) -> None:
    async with running() as far, house(tmp_path, far) as it:
        await post(it, it.chat("far/fake"), headers={"Accept-Encoding": accepted})
        assert posts(far)[0].header("Accept-Encoding") == asked


STREAM = (
    delta("one")
    + b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7},'
    + b'"timings":{"predicted_per_second":42.5}}\n\n'
    + DONE
)


async def dechunked(client: RawClient) -> bytes:
    data = b""
    while size := int(await client.reader.readline(), 16):
        data += await client.reader.readexactly(size)
        await client.reader.readexactly(2)
    return data


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"deflate"])
async def test_what_a_packed_answer_counts_is_noted_and_no_byte_of_it_changed(
    tmp_path: Path, coding: bytes, size: int
) -> None:
    body = zlib.compress(STREAM) if coding == b"deflate" else gzip.compress(STREAM)

    async def packs(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: %b\r\n" % coding)
        await talk.raw(b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in cut(body, size):
            await talk.chunk(piece)
        await talk.raw(b"0\r\n\r\n")

    async with running() as far, house(tmp_path, far, config={"keepalive_s": 0}) as it, raw(it.port) as client:
        far.behave("fake", packs)
        await client.post("/v1/chat/completions", it.chat("far/fake", stream=True), "Accept-Encoding: gzip\r\n")
        assert b"Content-Encoding: " + coding in await client.head()
        assert await dechunked(client) == body
        (record,) = it.decisions
        assert (record.prompt_tokens, record.completion_tokens, record.tokens_per_second) == (11, 7, 42.5)


@pytest.mark.parametrize("packed", [b"no gzip", gzip.compress(bytes(1 << 24)), gzip.compress(STREAM)[:20]])
async def test_what_cannot_be_read_along_passes_all_the_same(tmp_path: Path, packed: bytes) -> None:
    async def packs(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n")
        await talk.raw(b"Content-Length: %d\r\n\r\n" % len(packed) + packed)

    async with running() as far, house(tmp_path, far) as it, raw(it.port) as client:
        far.behave("fake", packs)
        await client.post("/v1/chat/completions", it.chat("far/fake"), "Accept-Encoding: gzip\r\n")
        await client.head()
        assert await client.reader.readexactly(len(packed)) == packed
        (record,) = it.decisions
        assert (record.status, record.prompt_tokens) == (200, None)


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
