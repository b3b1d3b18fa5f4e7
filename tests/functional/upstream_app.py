"""A hal0 with upstreams in front of fake servers, and the ways in which those misbehave."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hal0.lib import jsonio
from tests.fakes.backend import Backend, Talk
from tests.functional.dispatch_app import World, world

KEY = {"FAR_KEY": "sk-far"}


def table(backend: Backend, **fields: Any) -> dict[str, Any]:
    return {"base_url": f"http://{backend.host}:{backend.port}/v1", **fields}


@asynccontextmanager
async def house(
    tmp_path: Path, far: Backend, *, near: Backend | None = None, config: dict[str, Any] | None = None, **fields: Any
) -> AsyncIterator[World]:
    """A hal0 whose upstream `far` has a prefix and a key; `near` is a second one, of lower priority."""
    auth = {"style": "bearer", "env": "FAR_KEY"}
    upstreams = {"far": table(far, prefix="far/", auth=auth, priority=90, **fields)}
    if near is not None:
        upstreams["near"] = table(near, prefix="far/")
    async with world(tmp_path, root={"upstreams": upstreams}, environ=KEY, **(config or {})) as made:
        await made.upstreams.prefetch()
        yield made


async def post(it: World, body: Any, path: str = "/v1/chat/completions", **options: Any) -> tuple[int, Any, bytes]:
    data = body if isinstance(body, bytes) else jsonio.dumps(body)
    async with it.http.post(it.url + path, data=io.BytesIO(data), **options) as response:
        return response.status, response.headers, await response.read()


def posts(backend: Backend) -> list[Any]:
    return [seen for seen in backend.seen if seen.line.startswith("POST")]


async def hang(talk: Talk) -> None:
    await asyncio.sleep(3600)


async def garbage(talk: Talk) -> None:
    await talk.raw(b"\x00\x01 this is no HTTP\r\n\r\n")
    talk.break_off()


async def cut(talk: Talk) -> None:
    talk.break_off()


async def refuse_429(talk: Talk) -> None:
    await talk.json({"error": "slow down"}, "429 Too Many Requests", b"Retry-After: 9\r\n")
