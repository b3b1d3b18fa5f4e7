"""Requests to one upstream, over real sockets: what passes, what is kept back, every way it can go wrong."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from hal0.lib import jsonio
from tests.fakes.backend import DONE, Talk, answer, delta, running
from tests.fakes.slots import settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import RawClient, raw
from tests.functional.upstream_app import cut, garbage, hang, house, post, posts, table
from tests.ports import lease_block

GONE_WITHIN_S = 0.1  # the promise for a client that left


async def test_the_key_is_attached_and_the_clients_own_stays_here(tmp_path: Path) -> None:
    async with running() as far, house(tmp_path, far) as it:
        headers = {
            "Authorization": "Bearer hal0_client",
            "X-Api-Key": "hal0_client",
            "Cookie": "session=1",
            "Origin": "http://page.example",
            "X-Forwarded-For": "10.0.0.9",
            "X-Hal0-Hold": "5",
            "X-Vendor": "kept",
            "User-Agent": "client/1",
        }
        status, answered, _ = await post(
            it, it.chat("far/fake"), path="/v1/chat/completions?beta=1&x=%20y", headers=headers
        )
        (seen,) = posts(far)
        assert status == 200
        assert seen.line == "POST /v1/chat/completions?beta=1&x=%20y HTTP/1.1"
        assert seen.header("Authorization") == "Bearer sk-far"
        assert [name for name, _ in seen.headers if name.lower() == "authorization"] == ["Authorization"]
        for name in ("X-Api-Key", "Cookie", "Origin", "X-Forwarded-For", "X-Hal0-Hold"):
            assert seen.header(name) is None, name
        assert (seen.header("X-Vendor"), seen.header("User-Agent")) == ("kept", "client/1")
        assert seen.header("X-Hal0-Via") == "here"
        assert answered["X-Hal0-Upstream"] == "far"
        assert answered["X-Hal0-Rule"] == "passthrough"
        assert "X-Hal0-Slot" not in answered


async def test_the_way_there_is_timed_and_no_overhead_of_hal0s(tmp_path: Path) -> None:
    async with running() as far, house(tmp_path, far) as it:
        for _ in range(2):  # over a new connection, then over the kept one
            await post(it, it.chat("far/fake"))
        for record in it.decisions:
            assert record.connect_ms is not None
            assert record.first_byte_ms is not None
            assert record.overhead_ms is not None
            parts = record.connect_ms + record.first_byte_ms + record.overhead_ms
            assert 0 < record.overhead_ms < parts <= record.total_ms


async def test_only_the_model_is_another_and_every_other_byte_the_same(tmp_path: Path) -> None:
    body = (
        b'{ "messages":[{"role":"user","content":"h\\u00e9 \xc3\xa9"}],\n'
        b' "x_vendor": {"model": "far/fake"},"model" : "far/fake", "n":1.0}'
    )
    async with running() as far, house(tmp_path, far) as it:
        assert (await post(it, body))[0] == 200
        assert posts(far)[0].body == body.replace(b'"model" : "far/fake"', b'"model" : "fake"')


async def test_without_a_prefix_the_body_is_not_touched(tmp_path: Path) -> None:
    async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far)}}) as it:
        body = jsonio.dumps(it.chat("fake")) + b"\n"
        assert (await post(it, body))[0] == 200
        assert posts(far)[0].body == body


@pytest.mark.parametrize("size", [200_000, 3 << 20])  # in memory, in the spool
async def test_a_large_body_is_cut_and_sent_whole(tmp_path: Path, size: int) -> None:
    filler = "é" * size
    async with running() as far, house(tmp_path, far) as it:
        assert (await post(it, it.chat("far/fake", filler=filler)))[0] == 200
        sent = jsonio.loads(posts(far)[0].body)
        assert (sent["model"], sent["filler"]) == ("fake", filler)
        assert posts(far)[0].header("Content-Length") == str(len(posts(far)[0].body))


async def test_a_stream_arrives_byte_for_byte(tmp_path: Path) -> None:
    pieces = [delta("é")[:9], delta("é")[9:], delta(" two"), b"data: {", b"}\n\n", DONE]

    async def stream(talk: Talk) -> None:
        await talk.open_events()
        for piece in pieces:
            await talk.chunk(piece)
            await asyncio.sleep(0.01)
        await talk.end()

    async with running() as far, house(tmp_path, far) as it:
        far.behave("fake", stream)
        status, headers, body = await post(it, it.chat("far/fake", stream=True))
        assert (status, body) == (200, b"".join(pieces))
        assert headers["X-Accel-Buffering"] == "no"
        record = list(it.decisions)[-1]
        assert (record.target, record.rule, record.model, record.status) == ("far", "passthrough", "far/fake", 200)


@pytest.mark.parametrize(
    ("status", "extra"),
    [
        ("401 Unauthorized", b"WWW-Authenticate: Bearer\r\n"),
        ("429 Too Many Requests", b"Retry-After: 17\r\nX-RateLimit-Reset: 3\r\n"),
        ("404 Not Found", b""),
        ("503 Busy Here", b"Retry-After: 2\r\n"),
    ],
)
async def test_what_an_upstream_says_is_what_the_client_hears(tmp_path: Path, status: str, extra: bytes) -> None:
    async def refuse(talk: Talk) -> None:
        await talk.json({"error": {"message": "theirs", "own": 1}}, status, extra)

    async with running() as far, house(tmp_path, far) as it:
        far.behave("fake", refuse)
        got, headers, body = await post(it, it.chat("far/fake"))
        assert got == int(status[:3])
        assert body == b'{"error":{"message":"theirs","own":1}}'
        for line in extra.decode().splitlines():
            name, _, value = line.partition(": ")
            assert headers[name] == value
        assert len(posts(far)) == 1
        assert list(it.decisions)[-1].status == got


@pytest.mark.parametrize(
    ("location", "where"),
    [
        (b"Location: http://127.0.0.2:1/v1?token=theirs\r\n", "http://127.0.0.2:1/v1, "),
        (b"Location: //evil.example/%0d%0aX: y\r\n", "//evil.example/"),
        (b"Location: http://[::1\r\n", "what is no address"),
        (b"", "/v1/chat/completions"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_by_nobody(tmp_path: Path, status: int, location: bytes, where: str) -> None:
    """Neither hal0's key for the upstream nor the client's key for hal0 gets to where it leads."""

    async def onward(talk: Talk) -> None:
        await talk.json({"moved": True}, f"{status} Moved", location)

    async with running() as far, house(tmp_path, far) as it:
        far.behave("fake", onward)
        got, headers, body = await post(it, it.chat("far/fake"))
        error = jsonio.loads(body)["error"]
        assert (got, error["code"], error["details"]) == (502, "upstream.broken", {"upstream": "far"})
        assert where in error["message"]
        assert "token" not in error["message"]
        assert "Location" not in headers
        assert len(posts(far)) == 1
        assert it.upstreams.named("far").circuit.failures == 1


async def test_who_redirects_has_not_taken_the_request_so_another_is_asked(tmp_path: Path) -> None:
    async def onward(talk: Talk) -> None:
        await talk.json({}, "308 Permanent Redirect", b"Location: https://127.0.0.1/v1\r\n")

    async with running() as far, running() as near, house(tmp_path, far, near=near) as it:
        far.behave("fake", onward)
        assert (await post(it, it.chat("far/fake")))[0] == 200
        assert len(posts(near)) == 1


async def test_what_a_server_says_of_its_own_origin_stays_there(tmp_path: Path) -> None:
    kept = b"Set-Cookie: hal0_session=theirs\r\nAlt-Svc: clear\r\nX-Hal0-Slot: theirs\r\nX-Own: 1\r\n"

    async def cookies(talk: Talk) -> None:
        await talk.json({}, extra=kept)

    async with running() as far, house(tmp_path, far) as it:
        far.behave("fake", cookies)
        _, headers, _ = await post(it, it.chat("far/fake"))
        assert headers["X-Own"] == "1"
        assert not {"Set-Cookie", "Alt-Svc", "X-Hal0-Slot"} & set(headers)


async def test_an_unset_key_is_a_typed_error(tmp_path: Path) -> None:
    async with running() as far, house(tmp_path, far) as it:
        it.upstreams.named("far").link._environ = {}
        status, _, body = await post(it, it.chat("far/fake"))
        error = jsonio.loads(body)["error"]
        assert (status, error["code"]) == (502, "upstream.auth")
        assert "FAR_KEY" in error["message"]
        assert posts(far) == []
        assert it.upstreams.named("far").circuit.failures == 0


async def switch(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")


@pytest.mark.parametrize(
    ("behaviour", "fields", "code"),
    [
        (hang, {"first_byte_timeout_s": 0.3, "connect_timeout_s": 1.0}, "upstream.timeout"),
        (garbage, {}, "upstream.broken"),
        (switch, {}, "upstream.broken"),
        (cut, {}, "upstream.unreachable"),
    ],
)
async def test_no_answer_is_a_typed_error(
    tmp_path: Path, behaviour: Callable[[Talk], Any], fields: dict[str, Any], code: str
) -> None:
    async with running() as far, house(tmp_path, far, **fields) as it:
        far.behave("fake", behaviour)
        status, _, body = await post(it, it.chat("far/fake"))
        error = jsonio.loads(body)["error"]
        assert (error["code"], error["details"]["upstream"]) == (code, "far")
        assert status == (504 if code == "upstream.timeout" else 502)
        assert it.upstreams.named("far").circuit.failures == 1
        assert it.upstreams.named("far").in_flight == 0


@pytest.mark.parametrize(("port", "why"), [(None, "Connection refused"), ("99999", "is no address")])
async def test_why_there_is_no_connection_is_said(tmp_path: Path, port: str | None, why: str) -> None:
    with lease_block() as ports:
        upstream = {"base_url": f"http://127.0.0.1:{port or ports[0]}/v1", "models": ["fake"]}
        async with world(tmp_path, root={"upstreams": {"far": upstream}}) as it:
            await it.upstreams.refresh("far")
            view = it.upstreams.view("far")
            assert view.state == "offline"
            assert why in view.message


async def test_a_kept_connection_that_died_gets_a_second_try_and_only_one(tmp_path: Path) -> None:
    times: list[int] = []

    async def dies_when_used_again(talk: Talk) -> None:
        times.append(talk.seen.connection)
        if times.count(talk.seen.connection) > 1:
            talk.break_off()
        else:
            await answer(talk)

    async with running() as far, house(tmp_path, far) as it:
        far.behave("fake", dies_when_used_again)
        assert [(await post(it, it.chat("far/fake")))[0] for _ in range(2)] == [200, 200]
        assert len(times) == 3
        assert times[0] == times[1]
        far.behave("fake", cut)
        assert (await post(it, it.chat("far/fake")))[0] == 502


async def streamed(it: World, client: RawClient) -> bytes:
    """Everything that comes of a streamed request until the connection ends."""
    await client.post("/v1/chat/completions", it.chat("far/fake", stream=True))
    return await client.rest()


def last_event(read: bytes) -> Any:
    """The error in the last event; the answer must not have a proper end."""
    assert not read.endswith(b"0\r\n\r\n")
    return jsonio.loads(read[read.rindex(b"data: ") + 6 :].split(b"\n\n")[0])["error"]


async def test_a_stream_that_breaks_ends_with_an_error_and_never_looks_whole(tmp_path: Path) -> None:
    async def breaks(talk: Talk) -> None:
        await talk.open_events()
        await talk.chunk(delta("one"))
        await asyncio.sleep(0.05)
        talk.break_off()

    async with running() as far, house(tmp_path, far, near=far) as it, raw(it.port) as client:
        far.behave("fake", breaks)
        read = await streamed(it, client)
        assert delta("one") in read
        assert last_event(read)["code"] == "upstream.broken"
        assert len(posts(far)) == 1  # something was sent: no other is asked
        assert it.upstreams.named("far").circuit.failures == 1
        await settled(lambda: [record.code for record in it.decisions] == ["upstream.broken"])


async def test_silence_inside_an_answer_has_an_end(tmp_path: Path) -> None:
    async def stops(talk: Talk) -> None:
        await talk.open_events()
        await talk.chunk(delta("one"))
        await hang(talk)

    async with (
        running() as far,
        house(tmp_path, far, between_bytes_timeout_s=0.2) as it,
        raw(it.port) as client,
    ):
        far.behave("fake", stops)
        assert last_event(await streamed(it, client))["code"] == "upstream.timeout"
        await settled(lambda: [record.code for record in it.decisions] == ["upstream.timeout"])


async def test_comments_fill_the_wait_and_what_comes_late_is_an_event(tmp_path: Path) -> None:
    waited = asyncio.Event()

    async def late(talk: Talk) -> None:
        await waited.wait()
        await talk.json({"error": {"message": "theirs"}}, "429 Too Many Requests", b"Retry-After: 9\r\n")

    config = {"keepalive_s": 0.05}
    async with running() as far, house(tmp_path, far, config=config) as it, raw(it.port) as client:
        far.behave("fake", late)
        await client.post("/v1/chat/completions", it.chat("far/fake", stream=True))
        await client.comments(2)
        waited.set()
        error = last_event(await client.rest())
        assert (error["details"]["status"], error["details"]["answer"]) == (429, {"error": {"message": "theirs"}})
        assert error["retry_after_s"] == 9
        await settled(lambda: [record.status for record in it.decisions] == [429])


@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_leaves_is_felt_at_once(tmp_path: Path, streams: bool) -> None:
    async def first_then_silence(talk: Talk) -> None:
        if streams:
            await talk.open_events()
            await talk.chunk(delta("one"))
        await hang(talk)

    async with running() as far, house(tmp_path, far) as it, raw(it.port) as client:
        far.behave("fake", first_then_silence)
        await client.post("/v1/chat/completions", it.chat("far/fake", stream=True))
        if streams:
            await client.head()
        await settled(lambda: bool(posts(far)))
        client.leave()
        await settled(posts(far)[0].gone.is_set, within_s=GONE_WITHIN_S)
        await settled(lambda: [record.status for record in it.decisions] == [499])
        assert it.upstreams.named("far").in_flight == 0
        assert it.upstreams.named("far").circuit.failures == 0


class Deaf(asyncio.Protocol):
    """A server that takes connections and reads nothing."""

    def __init__(self, ends: list[asyncio.Transport]) -> None:
        self._ends = ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        end = cast("asyncio.Transport", transport)
        end.pause_reading()
        self._ends.append(end)


def established(port: int) -> int:
    """How many connections to this port somebody still holds open."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()]
    return sum(line[2].endswith(f":{port:04X}") and line[3] == "01" for line in lines)


async def test_an_upstream_that_does_not_even_read_is_let_go_with_the_client(tmp_path: Path) -> None:
    """What waits to be sent there must not hold the connection for as long as the other side likes."""
    ends: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Deaf(ends), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    root = {"slots": {"primary": {"provider": "upstream", "upstream": "far", "model": "fake"}}}
    root["upstreams"] = {"far": {"base_url": f"http://127.0.0.1:{port}/v1"}}
    async with server, world(tmp_path, root=root) as it, raw(it.port) as client:
        await client.post("/v1/chat/completions", it.chat("primary", filler="x" * (32 << 20)))
        await settled(lambda: bool(ends))
        await asyncio.sleep(0.2)  # until nothing more goes on its way
        assert established(port) == 1
        client.leave()
        await settled(lambda: established(port) == 0, within_s=GONE_WITHIN_S)
        await settled(lambda: [record.status for record in it.decisions] == [499])
        ends[0].abort()


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_has_no_body_has_no_end_of_one(tmp_path: Path, status: str) -> None:
    """The end of a body that there is not would be read as the beginning of the next answer."""

    async def nothing(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 %b\r\nX-Own: 1\r\n\r\n" % status.encode())

    async with running() as far, house(tmp_path, far) as it, raw(it.port) as client:
        far.behave("fake", nothing)
        for _ in range(2):
            await client.post("/v1/chat/completions", it.chat("far/fake"))
            head = await client.head()
            assert head.startswith(f"HTTP/1.1 {status}\r\n".encode())
            assert b"transfer-encoding" not in head.lower()
            assert b"content-length" not in head.lower()
