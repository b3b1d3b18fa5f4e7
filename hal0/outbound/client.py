"""GET of an address that somebody else chose: looked at before every connection, also behind names and redirects.

A name is resolved once per connection, and the connection goes to the very addresses that were looked at: what it
resolves to a moment later is nobody's business.
"""

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Final, TypeAlias

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hal0.outbound import REDIRECTS, AddressRefused, Unreachable
from hal0.outbound.names import Names
from hal0.outbound.rules import refusal

Rule: TypeAlias = Callable[[str], str | None]
"""Why an IP address is not called; None: it may be."""
HeadersFor: TypeAlias = Callable[[URL], Mapping[str, str]]

_MOST_HOPS: Final = 6  # the address itself, and five that it may lead to
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 30.0


def no_headers(_url: URL) -> Mapping[str, str]:
    return {}


class Outside:
    """An async context; `private` lets loopback and private networks through.

    Bytes come as they are: nothing is decompressed, no cookie kept, no proxy of the environment asked.
    """

    def __init__(
        self, *, private: bool = False, rule: Rule | None = None, resolver: AbstractResolver | None = None
    ) -> None:
        self._rule: Rule = rule or partial(refusal, private=private)
        self._session = ClientSession(
            connector=TCPConnector(
                limit=0,
                resolver=_Looking(self._rule, resolver or Names()),
                use_dns_cache=False,
                force_close=True,
            ),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            timeout=ClientTimeout(total=None, connect=_CONNECT_S, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
        )

    async def __aenter__(self) -> "Outside":
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(self, address: str, headers_for: HeadersFor = no_headers) -> AsyncIterator[ClientResponse]:
        """The answer, whatever its status, at the end of its redirects; its content may be read inside the block.

        `headers_for` is asked for every hop anew, so a key can stay with its host. The caller bounds the whole by a
        timeout of its own. Raises AddressRefused or Unreachable, also for what aiohttp raises inside the block.
        """
        url, hops = _parsed(address), _MOST_HOPS
        try:
            while True:
                self._look_at(url)
                hops -= 1
                headers = {"Accept-Encoding": "identity", "User-Agent": "hal0", **headers_for(url)}
                async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                    onward = response.headers.get("Location") if response.status in REDIRECTS else None
                    if onward is None:
                        yield response
                        return
                if not hops:
                    raise Unreachable(f"{url.host} redirects again and again")
                url = _onward(url, onward)
        except ClientError as error:
            raise Unreachable(f"{url.host}: {_reason(error)}") from error
        except TimeoutError as error:  # aiohttp's own; a caller's `asyncio.timeout` ends the block by cancelling it
            raise Unreachable(f"{url.host} was silent for too long") from error

    def _look_at(self, url: URL) -> None:
        """An address that is written as such is asked of no resolver."""
        host = url.host or ""
        if (":" in host or host.replace(".", "").isdigit()) and (why := self._rule(host)) is not None:
            raise AddressRefused(f"{host}: {why}")


class _Looking(AbstractResolver):
    """Refuses a name when any of its addresses is refused: whoever answers both ways is not to be trusted."""

    def __init__(self, rule: Rule, inner: AbstractResolver) -> None:
        self._rule = rule
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for it in found:
            if (why := self._rule(it["host"])) is not None:
                raise AddressRefused(f"{host} is {it['host']}: {why}")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _parsed(address: str) -> URL:
    try:
        url = URL(address)
    except ValueError as error:
        raise AddressRefused(f"it is no address: {error}") from None
    return _sound(url)


def _onward(url: URL, location: str) -> URL:
    try:
        onward = url.join(URL(location))
    except ValueError:
        raise Unreachable(f"{url.host} redirects to what is no address") from None
    if url.scheme == "https" and onward.scheme == "http":
        raise AddressRefused(f"{url.host} redirects from https to http")
    return _sound(onward)


def _sound(url: URL) -> URL:
    if url.scheme not in ("http", "https") or not url.host:
        raise AddressRefused("it is no http or https address")
    if url.user is not None or url.password is not None:
        raise AddressRefused(f"{url.host}: an address with a password in it is not called")
    return url


def _reason(error: ClientError) -> str:
    if isinstance(error, ClientConnectorError):
        number = error.os_error.errno or 0  # whose words are the system's; asyncio's own name addresses instead
        return os.strerror(number) if number in errno.errorcode else error.os_error.strerror or "no connection"
    return f"its answer is not HTTP ({type(error).__name__})"
