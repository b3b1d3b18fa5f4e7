"""What a render says while it goes on, over ComfyUI's websocket: steps done, and small previews."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import ClientError, ClientSession, ClientWSTimeout, WSMsgType

from hal0.lib import jsonio
from hal0.lib.aio import cancelled
from hal0.providers.base import Endpoint

_CONNECT_S: Final = 5.0
_GOODBYE_S: Final = 0.5  # the answer waits for it, and an engine that hangs says none
_MAX_MESSAGE_BYTES: Final = 4 << 20
_PREVIEW: Final = 1  # the event of a binary message
_FORMATS: Final = {1: "jpeg", 2: "png"}


class Step(NamedTuple):
    """`value` of `most` sampling steps are done."""

    value: int
    most: int


class Preview(NamedTuple):
    data: bytes
    format: str


Tell = Callable[[Step | Preview], Awaitable[None]]


@asynccontextmanager
async def watched(session: ClientSession, endpoint: Endpoint, client_id: str, tell: Tell) -> AsyncIterator[None]:
    """Inside, `tell` gets what is said to this client id. Nothing rests on it: a silent engine renders as well.

    What `tell` raises (the client has left) ends the watching alone; whoever sends the answer meets it, too.
    """
    url = f"{endpoint.base_url}/ws?clientId={client_id}"
    try:
        async with asyncio.timeout(_CONNECT_S):
            ends = ClientWSTimeout(ws_close=_GOODBYE_S)
            socket = await session.ws_connect(url, max_msg_size=_MAX_MESSAGE_BYTES, timeout=ends)
    except (ClientError, OSError, TimeoutError):
        yield
        return

    async def listen() -> None:
        try:
            async for message in socket:
                said = heard(message.data) if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) else None
                if said is not None:
                    await tell(said)
        except (ClientError, OSError):
            pass

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        await cancelled(task)
        await socket.close()


def heard(message: str | bytes) -> Step | Preview | None:
    """Pure. None for everything else that it says."""
    try:
        if isinstance(message, bytes):
            event, kind = struct.unpack_from(">II", message)
            return Preview(message[8:], _FORMATS[kind]) if event == _PREVIEW and len(message) > 8 else None
        value = jsonio.loads(message)
        if value["type"] != "progress":
            return None
        return Step(int(value["data"]["value"]), int(value["data"]["max"]))
    except (struct.error, jsonio.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
