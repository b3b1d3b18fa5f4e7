"""The event stream: what is, every change, and coming back to where one left off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from hal0.access.keyring import KeyDraft
from hal0.api import sse
from hal0.events.bus import RING_CAPACITY, Topic
from hal0.lib import jsonio
from hal0.paths import Paths
from hal0.vocab import Scope
from tests.functional.operator_app import BOOT, Operator, operator
from tests.functional.raw_client import raw
from tests.vloop import until

Json = dict[str, Any]


@dataclass
class Listener:
    response: aiohttp.ClientResponse

    async def next(self) -> tuple[str | None, Json]:
        """(id, data) of the next event; comments are passed over."""
        while True:
            text = (await asyncio.wait_for(self.response.content.readuntil(b"\n\n"), 5)).decode()
            fields = dict(line.split(": ", 1) for line in text.strip().split("\n") if not line.startswith(":"))
            if fields:
                return fields.get("id"), jsonio.loads(fields["data"])

    async def topics(self, count: int) -> list[str]:
        return [(await self.next())[1]["topic"] for _ in range(count)]

    async def where(self, **wanted: Any) -> tuple[str | None, Json]:
        """The next event whose value has these members."""
        while True:
            number, data = await self.next()
            if wanted.items() <= (data["value"] or {}).items():
                return number, data


def seq(number: str | None) -> int:
    boot, _, text = (number or "").partition("-")
    assert boot == BOOT
    return int(text)


@asynccontextmanager
async def listening(hal0: Operator, query: str = "", **headers: str) -> AsyncIterator[Listener]:
    async with hal0.api.get(f"/api/events{query}", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Listener(response)


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block) as served:
        yield served


@pytest.mark.parametrize("path", ["/api/events", "/api/slots/primary/events"])
async def test_who_asks_for_the_head_alone_gets_no_stream(hal0: Operator, path: str) -> None:
    _, key = await hal0.services.access.keyring.create(KeyDraft(label="ops", scopes=(Scope.ADMIN,)))
    async with raw(hal0.port) as client:
        await client.send(f"HEAD {path} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n".encode())
        assert b" 200 " in (await client.head()).splitlines()[0]
        assert await asyncio.wait_for(client.rest(), 5) == b""


async def test_a_new_listener_hears_hello_then_everything_then_changes(hal0: Operator) -> None:
    async with listening(hal0) as listener:
        assert (await listener.next()) == (None, {"topic": "hello", "id": BOOT, "value": None})
        first = [await listener.next() for _ in range(5)]
        assert [data["id"] for _, data in first] == ["primary", "embed", "stt", "tts", "img"]
        # only the last snapshot has an id: who loses the connection before gets them all again
        *early, last = [number for number, _ in first]
        assert early == [None] * 4
        job = await hal0.running.supervisor.load("primary")
        number, data = await listener.where(kind="load")
        assert (data["topic"], data["id"]) == ("job", job.view.id)
        assert seq(number) > seq(last)
        _, data = await listener.where(state="ready")
        assert data["value"] == (await hal0.call("GET", "/api/slots/primary"))[1]


async def test_who_comes_back_gets_what_was_missed_and_nothing_else(hal0: Operator) -> None:
    bus = hal0.services.bus
    bus.publish(Topic.HEALTH, "a", {"n": 1})
    seen = f"{BOOT}-{bus.last_seq}"
    bus.publish(Topic.HEALTH, "b", {"n": 2})
    missed = f"{BOOT}-{bus.last_seq}"
    for query, headers in ((f"?after={seen}", {}), ("", {"Last-Event-ID": seen})):
        async with listening(hal0, query, **headers) as listener:
            assert (await listener.next())[1]["topic"] == "hello"
            assert await listener.next() == (missed, {"topic": "health", "id": "b", "value": {"n": 2}})


@pytest.mark.parametrize(
    "after", ["other-3", f"{BOOT}-99", f"{BOOT}-", f"{BOOT}--1", "nonsense", "-", f"{BOOT}-{10**30}"]
)
async def test_an_id_that_nobody_remembers_means_everything_anew(hal0: Operator, after: str) -> None:
    async with listening(hal0, f"?after={after}") as listener:
        assert await listener.topics(7) == ["hello", "reset", *["slot"] * 5]


async def test_who_was_away_for_too_long_gets_everything_anew(hal0: Operator) -> None:
    for n in range(RING_CAPACITY + 2):
        hal0.services.bus.publish(Topic.HEALTH, "a", {"n": n})
    async with listening(hal0, f"?after={BOOT}-1") as listener:
        assert await listener.topics(7) == ["hello", "reset", *["slot"] * 5]


async def test_silence_is_filled_with_heartbeats(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, heartbeat_s=0.02) as hal0, listening(hal0) as listener, asyncio.timeout(5):
        while await listener.response.content.readuntil(b"\n\n") != b": heartbeat\n\n":
            continue


async def test_nobody_opens_streams_without_end(hal0: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MOST_STREAMS", 2)
    _, key = await hal0.services.access.keyring.create(KeyDraft(label="board", scopes=(Scope.READ,)))
    bus = hal0.services.bus
    own = len(bus._listeners)

    async def asked(headers: dict[str, str]) -> int:
        async with hal0.tcp.get("/api/events", headers=headers) as response:
            return response.status

    async with listening(hal0), listening(hal0):
        status, refused = await hal0.call("GET", "/api/events")
        assert (status, refused["error"]["code"]) == (503, "server.exhausted")
        assert await asked({"X-Api-Key": key}) == 200  # somebody else
    await until(lambda: len(bus._listeners) == own, within_s=5)
    async with listening(hal0) as again:
        assert (await again.next())[1]["topic"] == "hello"


async def test_listeners_that_leave_are_forgotten(hal0: Operator) -> None:
    bus = hal0.services.bus
    own = len(bus._listeners)
    async with listening(hal0) as one, listening(hal0) as two:
        await one.topics(6)
        await two.topics(6)
        assert len(bus._listeners) == own + 2
        one.response.close()
        await until(lambda: len(bus._listeners) == own + 1, within_s=5)


async def test_an_open_stream_does_not_delay_the_end_of_hal0(paths: Paths, port_block: range) -> None:
    loop = asyncio.get_running_loop()
    connector = aiohttp.UnixConnector(str(paths.run_dir / "hal0.sock"))
    async with aiohttp.ClientSession("http://hal0", connector=connector) as patient:  # it stays longer than hal0
        async with operator(paths, port_block):
            response = await patient.get("/api/events")
            await Listener(response).topics(6)
            began = loop.time()
        assert loop.time() - began < 4  # the grace time is 5 s
        response.close()
