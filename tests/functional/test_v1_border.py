"""On the way to an upstream: what is bytes stays bytes, and what breaks on this side is this side's."""

from pathlib import Path

import pytest

from hal0.dispatch.body import SpoolFile
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from tests.fakes.backend import running
from tests.functional.dispatch_app import world
from tests.functional.raw_client import answer, raw
from tests.functional.upstream_app import house, post, posts, table


async def test_a_header_is_bytes_that_pass_as_they_came(tmp_path: Path) -> None:
    values = [b"caf\xe9", "café €".encode(), b"\x80\xff"]
    lines = b"".join(b"X-Note: %b\r\n" % value for value in values) + b"X-Hal0-Via: other\xff\r\n"
    async with running() as far, house(tmp_path, far) as it, raw(it.port) as client:
        for filler in ("", "x" * (2 << 20)):  # in one piece, in many
            body = jsonio.dumps(it.chat("far/fake", filler=filler))
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: hal0\r\nContent-Length: %d\r\n%b\r\n"
            await client.send(head % (len(body), lines) + body)
            assert (await answer(client))[0] == 200
            seen = posts(far)[-1]
            assert [value.encode("latin-1") for name, value in seen.headers if name == "X-Note"] == values
            assert seen.header("X-Hal0-Via").encode("latin-1") == b"other\xff, here"


async def test_a_disk_that_fails_is_not_the_upstreams_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = SpoolFile.read

    async def fails_late(file: SpoolFile, at: int, size: int) -> bytes:
        if at > 1 << 20:
            raise Hal0Error("state.write_failed", "cannot read a large body back from disk: it ends too early")
        return await read(file, at, size)

    async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far)}}) as it:
        await it.upstreams.prefetch()
        monkeypatch.setattr(SpoolFile, "read", fails_late)
        status, _, body = await post(it, it.chat("fake", filler="x" * (3 << 20)))
        assert (status, jsonio.loads(body)["error"]["code"]) == (507, "state.write_failed")
        upstream = it.upstreams.named("far")
        assert (upstream.circuit.failures, upstream.failures, upstream.in_flight) == (0, 0, 0)
        assert posts(far) == []
        assert [record.code for record in it.decisions] == ["state.write_failed"]


async def test_an_address_may_be_written_in_any_letters(tmp_path: Path) -> None:
    async with running() as far:
        there = {**table(far), "base_url": f"http://{far.host}:{far.port}/für/v1", "models": ["fake"]}
        async with world(tmp_path, root={"upstreams": {"far": there}}) as it:
            await it.upstreams.prefetch()
            assert (await post(it, it.chat("fake"), path="/v1/chat/completions?q=%20"))[0] == 200
            assert posts(far)[0].line == "POST /f%C3%BCr/v1/chat/completions?q=%20 HTTP/1.1"
