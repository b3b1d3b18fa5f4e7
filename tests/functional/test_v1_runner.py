"""hal0's own runner: TCP and Unix sockets side by side, and an end that lets open requests finish."""

import asyncio
import stat
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hal0.api.runner import HttpRunner, serving


def app_with(handler: object) -> web.Application:
    app = web.Application()
    app.router.add_get("/", handler)  # type: ignore[arg-type]
    return app


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def test_tcp_on_both_families_and_a_private_unix_socket(home: Path) -> None:
    path = home / "run" / "hal0.sock"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"left by a crash")
    async with serving(app_with(hello), tcp=[("127.0.0.1", 0), ("::1", 0)], unix=path, grace_s=1) as (four, six):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        async with aiohttp.ClientSession() as http:
            for url in (f"http://127.0.0.1:{four}/", f"http://[::1]:{six}/"):
                async with http.get(url) as answer:
                    assert await answer.text() == "hello"
        unix = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=unix) as http, http.get("http://hal0/") as answer:
            assert await answer.text() == "hello"
    assert not path.exists()


async def test_a_port_that_is_taken_is_an_error_and_nothing_stays_open() -> None:
    async with serving(app_with(hello), tcp=[("127.0.0.1", 0)], grace_s=1) as (port,):
        with pytest.raises(OSError, match="in use"):
            async with serving(app_with(hello), tcp=[("127.0.0.1", port)], grace_s=1):
                pass


@pytest.mark.parametrize(("grace_s", "finishes"), [(5.0, True), (0.1, False)])
async def test_an_open_request_has_the_grace_time_to_finish(grace_s: float, finishes: bool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(text="done")

    runner = HttpRunner(app_with(slow), grace_s=grace_s)
    await runner.start()
    port = await runner.listen_tcp("127.0.0.1", 0)
    async with aiohttp.ClientSession() as http:
        asking = asyncio.ensure_future(http.get(f"http://127.0.0.1:{port}/"))
        await begun.wait()
        stopping = asyncio.ensure_future(runner.stop())
        if finishes:
            await asyncio.sleep(0)
            go_on.set()
            async with await asking as answer:
                assert await answer.text() == "done"
        else:
            with pytest.raises(aiohttp.ClientError):
                await asking
        await stopping
