"""What a real llama-server streamed, on each path in its own form: relayed exactly, however it comes, and counted."""

import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.fakes.backend import Talk
from tests.functional.dispatch_app import World, world

RECORDED: Final = Path(__file__).parent / "recorded"
# Path, stream, and the tokens that the engine said: into it (those from its cache too) and out of it.
STREAMS: Final = [
    ("/v1/chat/completions", "chat", (20, 8)),
    ("/v1/completions", "completions", (7, 8)),
    ("/v1/responses", "responses", (20, 8)),
    ("/v1/messages", "messages", (20, 8)),
    ("/completion", "completion", (7, 8)),
]
# What no tiny model says by itself, as events of their own.
EXTRA: Final = ': ping\n\ndata: {{"x":"h\u00e9llo \u4e16\u754c \U0001f600 {}"}}\r\n\r\n'


def pieces_of(size: int) -> Callable[[bytes], list[bytes]]:
    return lambda data: [data[at : at + size] for at in range(0, len(data), size)]


CUTS: Final[dict[str, Callable[[bytes], list[bytes]]]] = {
    "single bytes": pieces_of(1),
    "inside characters and frames": pieces_of(7),
    "large pieces": pieces_of(65_537),
    "one piece": lambda data: [data],
    "no final newline": lambda data: [data[:-1]],
    "inside the last frame": lambda data: [data[:-9], data[-9:]],
}


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def streaming(pieces: list[bytes], extra: bytes = b"", trailers: bytes = b"") -> Callable[[Talk], object]:
    async def behave(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n")
        await talk.raw(extra + b"\r\n")
        # As one write: how many chunks a stream has is not how many packets carry it.
        await talk.raw(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
        await talk.raw(b"0\r\n" + trailers + b"\r\n")

    return behave


async def relayed(w: World, path: str) -> tuple[bytes, aiohttp.ClientResponse]:
    body = {"model": "fake-chat", "stream": True}
    async with aiohttp.ClientSession(auto_decompress=False) as http, http.post(w.url + path, json=body) as answer:
        assert answer.status == 200
        return await answer.read(), answer


@pytest.mark.parametrize(("path", "name", "tokens"), STREAMS, ids=lambda it: it if isinstance(it, str) else "")
async def test_a_recorded_stream_arrives_as_it_was(w: World, path: str, name: str, tokens: tuple[int, int]) -> None:
    stream = (RECORDED / f"{name}.sse").read_bytes()
    for cut in CUTS.values():
        pieces = cut(stream)
        w.backend.behave("fake-chat", streaming(pieces))  # type: ignore[arg-type]
        assert (await relayed(w, path))[0] == b"".join(pieces)
    assert {(record.prompt_tokens, record.completion_tokens) for record in w.decisions} == {tokens}


@pytest.mark.parametrize("path", [path for path, _, _ in STREAMS])
async def test_any_text_and_any_frame_arrives_as_it_was(w: World, path: str) -> None:
    frames = EXTRA.format("").encode() + EXTRA.format("x" * 1_000_000).encode()
    for pieces in ([*pieces_of(3)(frames[:400]), frames[400:]], [frames], pieces_of(99_991)(frames)):
        w.backend.behave("fake-chat", streaming(pieces))  # type: ignore[arg-type]
        assert (await relayed(w, path))[0] == frames


@pytest.mark.parametrize("path", [path for path, _, _ in STREAMS])
async def test_a_compressed_stream_stays_compressed_and_trailers_stay_behind(w: World, path: str) -> None:
    packed = gzip.compress((RECORDED / "chat.sse").read_bytes(), mtime=0)
    behaviour = streaming([packed], b"Content-Encoding: gzip\r\nTrailer: X-Sum\r\n", b"X-Sum: 1\r\n")
    w.backend.behave("fake-chat", behaviour)  # type: ignore[arg-type]
    text, answer = await relayed(w, path)
    assert text == packed
    assert answer.headers["Content-Encoding"] == "gzip"
    assert not {"Trailer", "X-Sum"} & answer.headers.keys()
