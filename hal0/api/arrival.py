"""A request as it arrives: what the door, the router of errors and dispatch want to know of one that the front read."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from aiohttp import HttpVersion, HttpVersion11
from multidict import CIMultiDictProxy

from hal0.api.heads import Heading, RawHeaders
from hal0.api.ids import own_request_id

_NO_COOKIES: Final[Mapping[str, str]] = MappingProxyType({})


class ClientSide(Protocol):
    """The client's connection; its transport is None when the client has left."""

    @property
    def transport(self) -> asyncio.Transport | None: ...

    async def drain(self) -> None: ...


class Visit(Protocol):
    """What the door looks at; aiohttp's requests have it, too. `remote` is the peer's address."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def cookies(self) -> Mapping[str, str]: ...
    @property
    def remote(self) -> str | None: ...
    @property
    def transport(self) -> asyncio.Transport | None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Arrival:
    """All requests with the same head on one connection; a `Visit`, and dispatch's `Asked`."""

    method = "POST"
    version: HttpVersion = HttpVersion11
    keep_alive = True
    cookies = _NO_COOKIES  # a head with cookies is not an ordinary one

    def __init__(self, heading: Heading, connection: ClientSide) -> None:
        self.path = self.raw_path = heading.target
        self.headers = heading.headers
        self.raw_headers: RawHeaders = heading.raw
        self.own_id = own_request_id(heading.headers)
        self.writer = connection
        peer = self.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) and peer else None

    @property
    def transport(self) -> asyncio.Transport | None:
        return self.writer.transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        transport = self.transport
        return default if transport is None else transport.get_extra_info(name, default)
