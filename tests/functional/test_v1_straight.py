"""Exact paths go past aiohttp's router, and through everything else all the same."""

from pathlib import Path

import pytest
from aiohttp import web

from hal0.access.principal import Principal
from hal0.api.cors import Cors
from hal0.api.middleware import edge
from hal0.api.openai import DISPATCHER, ROUTES
from hal0.api.route import register
from hal0.api.runner import serving
from hal0.config.access import AccessConfig
from hal0.errors import Hal0Error
from hal0.vocab import Access
from tests.functional.dispatch_app import world
from tests.functional.raw_client import raw


async def test_the_router_is_asked_for_what_is_not_exact_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as it:
        asked: list[str] = []
        resolve = web.UrlDispatcher.resolve

        async def seen(router: web.UrlDispatcher, request: web.Request) -> object:
            asked.append(request.raw_path)
            return await resolve(router, request)

        monkeypatch.setattr(web.UrlDispatcher, "resolve", seen)
        for path in ("/v1/chat/completions", "/v1/chat/completions?a=b", "/v1/chat%2Fcompletions", "/v1/nowhere"):
            async with raw(it.port) as client:
                await client.post(path, it.chat())
                status = (await client.head()).split()[1]
            assert status == (b"200" if path.startswith("/v1/chat/completions") else b"404")
    assert asked == ["/v1/chat/completions?a=b", "/v1/chat%2Fcompletions", "/v1/nowhere"]


async def test_the_access_check_sees_the_route_of_an_exact_path() -> None:
    asked: list[Access] = []

    async def nobody(_request: web.Request, access: Access) -> Principal:
        asked.append(access)
        raise Hal0Error("auth.required", "no")

    app = web.Application(middlewares=[edge(nobody, Cors(AccessConfig))])
    register(app, ROUTES)
    assert DISPATCHER not in app  # nobody comes that far
    async with serving(app, tcp=[("127.0.0.1", 0)], grace_s=1) as (port,), raw(port) as client:
        await client.post("/v1/chat/completions", {}, "X-Request-ID: mine-1\r\n")
        head = await client.head()
    assert head.startswith(b"HTTP/1.1 401")
    assert b"X-Request-ID: mine-1" in head
    assert asked == [Access.INFERENCE]
