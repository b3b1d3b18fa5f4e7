"""Large uploads: every byte arrives, and none of them stays in memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from hal0.dispatch import body
from hal0.lib import jsonio
from hal0.providers.base import Endpoint
from hal0.slots.handle import Serves
from hal0.vocab import Capability
from tests.fakes.slots import READY, settled, snapshot
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import RawClient, raw

MIB: Final = 1 << 20
BLOCK: Final = bytes(range(256)) * (MIB // 256)
HEAD: Final = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
TAIL: Final = b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nears\r\n--b--\r\n'


@dataclass
class Drain:
    """An engine that counts and hashes what it is sent, and keeps none of it."""

    port: int = 0
    read: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await self.may_read.wait()
        while left:
            piece = await reader.read(min(left, 256 * 1024))
            self.digest.update(piece)
            self.read += len(piece)
            left -= len(piece)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def hearing(tmp_path: Path) -> AsyncIterator[tuple[World, Drain]]:
    drain = Drain()
    server = await asyncio.start_server(drain.serve, "127.0.0.1", 0)
    endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], "s")
    async with server, world(tmp_path) as w:
        serves = (Serves("ears", Capability.STT),)
        w.slots.add(snapshot("ears", **READY, endpoint=endpoint, model="ears", serves=serves))
        yield w, drain


async def upload(client: RawClient, mebibytes: int) -> None:
    """A form with its model behind a file of this size; the client's own side is blocks of 1 MiB."""
    length = len(HEAD) + mebibytes * MIB + len(TAIL)
    head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    await client.send(f"{head}Content-Length: {length}\r\n\r\n".encode() + HEAD)
    for _ in range(mebibytes):
        await client.send(BLOCK)
    await client.send(TAIL)


def resident(name: str) -> int:
    """Bytes of this process, from its status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


async def test_a_large_upload_arrives_whole_and_takes_no_memory(
    tmp_path: Path, soak_scale: Callable[[int, int], int]
) -> None:
    mebibytes = soak_scale(200, 511)
    async with hearing(tmp_path) as (w, drain), raw(w.port) as client:
        drain.may_read.set()
        await asyncio.to_thread(Path("/proc/self/clear_refs").write_text, "5")  # the peak begins anew
        before = resident("VmRSS")
        await upload(client, mebibytes)
        assert b" 200 " in (await client.head()).splitlines()[0]
        assert (resident("VmHWM") - before) / MIB <= 16
        expected = hashlib.sha256(HEAD)
        for _ in range(mebibytes):
            expected.update(BLOCK)
        expected.update(TAIL)
        assert drain.digest.digest() == expected.digest()


async def test_an_engine_that_does_not_read_stops_the_upload_to_it(tmp_path: Path) -> None:
    async with hearing(tmp_path) as (w, drain), raw(w.port) as client:
        before = resident("VmRSS")
        await upload(client, 32)
        await settled(lambda: w.slots["ears"].in_flight == 1)
        await asyncio.sleep(0.2)
        assert (resident("VmRSS") - before) / MIB <= 16
        drain.may_read.set()
        assert b" 200 " in (await client.head()).splitlines()[0]
        assert drain.read == len(HEAD) + 32 * MIB + len(TAIL)


async def test_the_spool_has_an_end_and_gives_back_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "QUOTA_BYTES", 9 * MIB)
    async with hearing(tmp_path) as (w, drain):
        for _ in range(2):
            async with raw(w.port) as one, raw(w.port) as other:
                await upload(one, 6)
                await settled(lambda: w.slots["ears"].in_flight == 1)
                await upload(other, 6)
                head = await other.head()
                assert b" 507 " in head.splitlines()[0]
                told = jsonio.loads(
                    await other.reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                )
                assert told["error"]["code"] == "state.write_failed"
                assert "spool" in told["error"]["message"]
                drain.may_read.set()
                assert b" 200 " in (await one.head()).splitlines()[0]
                drain.may_read.clear()
            await settled(lambda: w.slots["ears"].in_flight == 0)
