"""A connection that becomes aiohttp's is aiohttp's alone."""

import asyncio
from typing import Any, cast
from unittest.mock import create_autospec

from hal0.api.crowd import Crowd
from hal0.api.front import Front, Fronts, Parts


class Wire:
    """A transport as far as reading from it goes."""

    def __init__(self) -> None:
        self.reads = True
        self.heir: asyncio.Protocol | None = None

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, heir: asyncio.Protocol) -> None:
        self.heir = heir


class Heir(asyncio.Protocol):
    """Has enough at once, as aiohttp has of a large body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._wire.pause_reading()


async def test_whoever_inherits_a_connection_says_when_it_is_read() -> None:
    nobody = cast("Any", None)
    wire = Wire()
    front = Fronts(Parts(nobody, nobody, {}, Heir, idle_s=60.0, crowd=Crowd(list)))()
    front.connection_made(cast("asyncio.Transport", wire))
    front.pause_writing()  # the client does not read its last answer, and sends on
    front.data_received(b"PUT / HTTP/1.1\r\n\r\n" + bytes(100_000))
    assert not wire.reads
    front.resume_writing()
    assert isinstance(wire.heir, Heir)
    assert not wire.reads


class Full(Wire):
    """A transport whose client does not read: whatever is written stays in it."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.Protocol | None = None

    def write(self, _data: bytes) -> None:
        assert self.protocol is not None
        self.protocol.pause_writing()


async def test_whoever_inherits_a_connection_has_heard_of_everything_that_waits_in_it() -> None:
    nobody = cast("Any", None)
    fronts, wire, another = (
        Fronts(Parts(nobody, nobody, {}, Heir, idle_s=60.0, crowd=Crowd(list))),
        Full(),
        create_autospec(asyncio.Transport),
    )
    front = cast("Front", fronts())
    wire.protocol = front
    front.connection_made(cast("asyncio.Transport", wire))
    fronts.outbox.post(another, b"another client's answer")
    front.send(b"an answer")  # waits for the end of the turn
    front.data_received(b"PUT / HTTP/1.1\r\n\r\n")
    assert wire.heir is None
    front.resume_writing()
    assert isinstance(wire.heir, Heir)
