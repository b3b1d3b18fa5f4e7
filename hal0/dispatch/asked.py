"""A request whose head is here, as dispatch sees it: one of aiohttp's, or one that hal0's own front has read."""

import asyncio
from typing import Protocol

from aiohttp import HttpVersion
from multidict import CIMultiDictProxy

from hal0.dispatch.headers import RawHeaders


class Writer(Protocol):
    """The client's side of back-pressure."""

    async def drain(self) -> None:
        """Until the client has taken most of what was written."""
        ...


class Asked(Protocol):
    """`path` is decoded, `raw_path` as the client wrote it, query string and all."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def raw_path(self) -> str: ...
    @property
    def version(self) -> HttpVersion: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def raw_headers(self) -> RawHeaders: ...
    @property
    def keep_alive(self) -> bool: ...
    @property
    def transport(self) -> asyncio.Transport | None:
        """None when the client has left."""
        ...

    @property
    def writer(self) -> Writer: ...
