"""Whatever is sent to the surface gets one answer, in time: the engine's, or one typed error, and one record."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

import pytest

from hal0.dispatch.surface import SURFACE, BodyKind
from hal0.errors import TABLE
from hal0.lib import jsonio
from hal0.slots.handle import Serves
from hal0.vocab import Capability
from tests.fakes.backend import Talk
from tests.fakes.slots import READY, snapshot
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import raw

LIMIT_S: Final = 10.0
TARGETS: Final = [
    (row.method, spelling.replace("{name}", name).replace("{path:.*}", "v1/x"))
    for row in SURFACE
    for spelling in row.spellings
    for name in (("img", "embed") if row.body is BodyKind.RAW else ("",))
]
MODELS: Final = [
    *("primary", "embed", "fake-chat", "fake-embed", "img", "a-img", "hal0/primary", "chat", "on-disk", "ON:disk"),
    *("", "x" * 300, "x" * 5000, "../..", "a\r\nX-Injected: 1", "\x00", "\u202e", "\U0001f600", "null", "qwen3:4b"),
]
VALUES: Final = [*MODELS, None, 7, -0.5, True, [], {}, ["primary"], {"model": "embed"}]
HEADERS: Final = [
    "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=b",
    'Content-Type: multipart/form-data; boundary="b"; boundary=c',
    "Content-Type: multipart/form-data",
    "Content-Type: \u00e9",
    "Content-Encoding: identity",
    "Content-Encoding: gzip",
    "X-Hal0-Hold: 0",
    "X-Hal0-Hold: soon",
    "X-Request-ID: a b",
    "Expect: 100-continue",
    "Accept: text/event-stream",
]


async def engine(talk: Talk) -> None:
    await talk.json({"ok": True})


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, hold_s=0, hold_stream_s=0) as it:
        it.slots.add(snapshot("img", model="a-img", serves=(Serves("a-img", Capability.IMAGE),)))  # not loaded
        serves = (Serves("a-stt", Capability.STT),)
        it.slots.add(snapshot("stt", **READY, endpoint=it.endpoint, model="a-stt", serves=serves))
        it.backend.behave("*", engine)
        for model in MODELS:
            it.backend.behave(model, engine)
        yield it


class Anything:
    """Requests that somebody might send, from one number."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def request(self) -> bytes:
        method, path = self.chance.choice(TARGETS)
        if self.chance.random() < 0.15:
            method = self.chance.choice(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "get"])
        body = self.body() if method != "HEAD" or self.chance.random() < 0.1 else b""
        # One of each: aiohttp refuses the same header twice before anybody of ours sees it.
        chosen = {line.partition(":")[0]: line for line in self.chance.sample(HEADERS, self.chance.randrange(4))}
        lines = [*chosen.values(), f"Content-Length: {len(body)}", "Connection: close", "Host: h"]
        head = b"%b %b HTTP/1.1\r\n" % (method.encode(), self.target(path.encode()))
        return head + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body

    def target(self, path: bytes) -> bytes:
        match self.chance.randrange(8):
            case 0:
                at = self.chance.randrange(1, len(path) + 1)
                path = (
                    path[:at]
                    + self.chance.choice([b"/", b"%2F", b"%00", b"\xc3\xa9", b"\xff", b"%ff", b"//"])
                    + path[at:]
                )
            case 1:
                path = b"/" + quote_from_bytes(path[1:], safe="").replace("%2F", "/").encode()
                path = path.replace(b"a", b"%61")
            case 2:
                path += self.chance.choice([b"/", b"/..", b"/../models", b";x", b"%20", b"?", b"#x"])
            case 3:
                query = self.chance.choice(
                    [b"model=img", b"model=%ff", b"model=\xff", b"model=a&model=b", b"%", b"a=" + b"b" * 3000]
                )
                path += b"?" + query
            case _:
                pass
        return path

    def body(self) -> bytes:
        kind = self.chance.randrange(10)
        if kind == 0:
            return self.chance.randbytes(self.chance.randrange(400))
        if kind == 1:
            return b'{"model":' * self.chance.randrange(1, 3000)
        whole = self.form() if kind < 5 else self.json()
        if self.chance.random() < 0.3:  # something is missing, twice, or wrong
            at, to = sorted(self.chance.choices(range(len(whole) + 1), k=2))
            whole = whole[:at] + self.chance.choice([b"", whole[at:to] * 2, self.chance.randbytes(3)]) + whole[to:]
        return whole

    def json(self) -> bytes:
        members = {name: self.chance.choice(VALUES) for name in ("model", "stream", "encoding_format", "input")}
        kept = self.chance.sample(list(members), self.chance.randrange(5))
        return jsonio.dumps({name: members[name] for name in kept})

    def form(self) -> bytes:
        parts = []
        for _ in range(self.chance.randrange(4)):
            name = self.chance.choice(["model", "stream", "file", "file[]"])
            file = '; filename="a"' if self.chance.random() < 0.2 else ""
            head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
            parts.append(head.encode() + self.chance.choice(MODELS).encode() + b"\r\n")
        return b"".join(parts) + b"--b--\r\n"


async def answered(w: World, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the one answer, which ends within LIMIT_S."""
    async with raw(w.port) as client, asyncio.timeout(LIMIT_S):
        await client.send(request)
        text = await client.rest()
    head, _, body = text.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, body


async def test_anything_gets_one_answer_or_one_typed_error_and_one_record(
    w: World, soak_scale: Callable[[int, int], int], caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(soak_scale(400, 10_000)):
        request = Anything(seed).request()
        before = len(w.backend.seen)
        status, headers, body = await answered(w, request)
        why = (seed, request[:300], status, body[:300])
        assert status != 500, why
        assert "x-injected" not in headers, why
        records = [record for record in w.decisions if record.request_id == headers.get("x-request-id")]
        assert len(records) <= 1, why
        assert all(record.status == status and jsonio.dumps(record) for record in records), why
        asked = len(w.backend.seen) - before
        assert asked == (1 if records and records[0].code is None else 0), why
        if status >= 400 and not request.startswith(b"HEAD"):
            error = jsonio.loads(body)["error"]
            assert TABLE[error["code"]].status == status, why
    assert "Traceback" not in caplog.text
