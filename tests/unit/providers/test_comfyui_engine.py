"""A ComfyUI that answers anything: whatever it says is understood, or one of hal0's errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Endpoint
from hal0.providers.comfyui.engine import ComfyEngine

ID: Final = "a-render"
ODD: Final[tuple[Any, ...]] = (None, 7, "text", [], {}, [None], [[]], [7, "x", {}], {"error": 7}, {ID: None})
# What a history may say of a render, and a queue of what is in it.
ENTRIES: Final[tuple[Any, ...]] = (
    7,
    [],
    {"status": None},
    {"status": {"status_str": "success"}, "outputs": {"save": {"images": []}}},
    {"status": {"status_str": "success"}, "outputs": {"save": {"images": [7]}}},
    {"status": {"status_str": "error", "messages": 7}},
    {"status": {"status_str": "error", "messages": [7, [], [{}, {}], ["execution_error", 7]]}},
    {"status": {"status_str": "error", "messages": [["execution_error", {"exception_message": [1], "node_id": {}}]]}},
)
REFUSALS: Final[tuple[Any, ...]] = (
    {"node_errors": 7},
    {"node_errors": {"a": 7}},
    {"node_errors": {"a": {"errors": 7}}},
    {"node_errors": {"a": {"errors": [7, {"extra_info": 7, "message": {}}]}}},
    {"error": {"message": ["x"]}, "node_errors": {"save": None}},
)
BODIES: Final = (*ODD, *({ID: entry} for entry in ENTRIES), *REFUSALS, {"queue_running": [[1]], "queue_pending": [7]})
WORK: Final[tuple[Callable[[ComfyEngine], Awaitable[object]], ...]] = (
    lambda engine: engine.weights("m"),
    lambda engine: engine.submit({}, ID, "client"),
    lambda engine: engine.outcome(ID),
    lambda engine: engine.queue(),
    lambda engine: engine.upload("a.png", b"x"),
    lambda engine: engine.view("hal0/a.png", "png", 100),
    lambda engine: engine.forget(ID),
)


@asynccontextmanager
async def saying(answer: web.Response) -> AsyncIterator[ComfyEngine]:
    async def say(_request: web.Request) -> web.Response:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", say)
    async with TestServer(app) as server, ClientSession() as session:
        assert server.port is not None
        yield ComfyEngine(session, Endpoint("127.0.0.1", server.port, ""))


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_whatever_it_answers_is_understood_or_one_of_hal0s_errors(status: int) -> None:
    whole = [web.Response(status=status, body=jsonio.dumps(body), content_type="application/json") for body in BODIES]
    for answer in (*whole, web.Response(status=status, text="<html>"), web.Response(status=status, body=b"")):
        async with saying(answer) as engine:
            for work in WORK:
                try:
                    await work(engine)
                except Hal0Error as error:
                    assert error.code in {"upstream.broken", "render.failed", "request.invalid"}, (answer.body, error)  # noqa: PT017  both ends are right
