"""HTTP to one upstream: its key attached, its deadlines kept, aiohttp's failures in hal0's words.

The key goes to the origin of `base_url` and nowhere else: every address is made here, of `base_url`, and a redirect is
a failure. Nor may the client follow one: many would show the key that hal0 gave them to whoever stands there.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    ServerDisconnectedError,
)
from yarl import URL

from hal0.config.upstreams import UpstreamConfig, UpstreamKind
from hal0.errors import Hal0Error
from hal0.outbound import REDIRECTS
from hal0.upstreams.keys import key_header
from hal0.upstreams.session import Told

# Every hal0 that sends a request on writes its instance here; one that finds its own has gone round in a circle.
VIA: Final = "X-Hal0-Via"
# The version of Anthropic's API that hal0 knows, for clients that name none.
_ANTHROPIC_VERSION: Final = ("anthropic-version", "2023-06-01")
_FIRST_FINAL: Final = 200  # a status below it announces an answer, and is none
_MOST_LIST_BYTES: Final = 4 << 20
_LIST_SILENCE_S: Final = 5.0

Headers = Sequence[tuple[str, str]]
MakeBody = Callable[[], bytes | AsyncIterator[bytes]]
"""The same body at each call."""


class Link:
    """`instance` is this hal0's own id, for VIA."""

    def __init__(
        self, name: str, config: UpstreamConfig, session: ClientSession, environ: Mapping[str, str], *, instance: str
    ) -> None:
        self._name = name
        self._config = config
        self._session = session
        self._environ = environ
        self._instance = instance

    def key(self) -> tuple[str, str] | None:
        """The header with the key. Raises upstream.auth."""
        return key_header(self._name, self._config.auth, self._environ)

    async def send(
        self,
        target: str,
        headers: Headers,
        body: MakeBody,
        length: int,
        *,
        via: str | None,
        connected: Callable[[], None],
    ) -> ClientResponse:
        """POST to base_url + `target` (with its query string); the head of the answer is here when this returns.

        Header values are bytes read as Latin-1. `via` is the request's own VIA; `connected` is called when there is a
        connection for it. A kept one that turns out to be dead gets a second try; nothing else does. The caller closes
        the answer. Raises upstream.loop, upstream.auth, upstream.unreachable, upstream.timeout, upstream.broken, or
        what the body raises.
        """
        if via is not None and self._instance in {word.strip() for word in via.split(",")}:
            raise Hal0Error("upstream.loop", f"cannot ask upstream {self._name!r}: the request has been here before")
        passing = self._headers((*headers, ("Content-Length", str(length))), via)
        told = Told(connected)
        try:
            return await self._ask("POST", target, passing, body(), told)
        except _Dropped as dropped:
            if not told.reused:
                raise dropped.error from dropped.__cause__
        try:
            return await self._ask("POST", target, passing, body(), Told(connected))
        except _Dropped as dropped:
            raise dropped.error from dropped.__cause__

    async def models(self) -> tuple[int, bytes]:
        """Status and body of its model list; the caller sets the deadline. Raises as `send`."""
        headers = self._headers((("Accept", "application/json"), ("Accept-Encoding", "identity")), None)
        try:
            async with await self._ask("GET", "/models", headers, b"", Told()) as response:
                return response.status, await _bounded(self._name, response)
        except _Dropped as dropped:
            raise dropped.error from dropped.__cause__

    async def more(self, response: ClientResponse) -> bytes:
        """The next bytes of an answer as they came; b"" at its end. Raises upstream.timeout or upstream.broken."""
        return await _more(self._name, response, self._config.between_bytes_timeout_s)

    def _headers(self, given: Headers, via: str | None) -> Headers:
        """The given ones and hal0's own, of which there is one each."""
        own = [(VIA, self._instance if via is None else f"{via}, {self._instance}")]
        if (key := self.key()) is not None:
            own.append(key)
        said = {name.lower() for name, _ in own}
        passing = [header for header in given if header[0].lower() not in said]
        if self._config.kind is UpstreamKind.ANTHROPIC and not _has(passing, _ANTHROPIC_VERSION[0]):
            own.append(_ANTHROPIC_VERSION)
        return [*passing, *own]

    async def _ask(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        told: Told,
    ) -> ClientResponse:
        config = self._config
        try:
            async with asyncio.timeout(config.connect_timeout_s + config.first_byte_timeout_s) as limit:
                data = (body or None) if isinstance(body, bytes) else _patiently(body, limit, config, told)
                with _translated(self._name):
                    response = await self._session.request(
                        method,
                        _address(config.base_url, target),
                        headers=headers,
                        data=data,
                        allow_redirects=False,
                        timeout=ClientTimeout(total=None, connect=config.connect_timeout_s),
                        trace_request_ctx=told,
                    )
        except TimeoutError:
            raise silent(self._name, config.first_byte_timeout_s) from None
        except (Hal0Error, _Dropped):
            if told.lost is not None:  # nothing of that is the upstream's
                raise told.lost from None
            raise
        if response.status < _FIRST_FINAL:
            response.close()
            raise broken(self._name, f"it wants to speak another protocol, or none ({response.status})")
        if response.status in REDIRECTS:
            response.close()
            raise _redirecting(self._name, response)
        return response


class _Dropped(Exception):
    """The connection ended before a single byte of the answer; `error` is what that means if nothing more is tried."""

    def __init__(self, error: Hal0Error) -> None:
        super().__init__(error.message)
        self.error = error


async def _patiently(
    body: AsyncIterator[bytes], limit: asyncio.Timeout, config: UpstreamConfig, told: Told
) -> AsyncIterator[bytes]:
    """The body; a long one may take its time: silence is counted from its last piece on, and never while hal0 reads."""
    loop = asyncio.get_running_loop()

    def within(seconds: float | None) -> None:
        with suppress(RuntimeError):  # it is over: an answer may come before the end of the body
            limit.reschedule(None if seconds is None else loop.time() + seconds)

    within(None)
    try:
        async for piece in body:
            within(config.first_byte_timeout_s)
            yield piece
            within(None)
    except Hal0Error as error:
        told.lost = error
        raise
    within(config.first_byte_timeout_s)


def _address(base_url: str, target: str) -> URL:
    """`target` stays as it is; other letters than ASCII's stand only where people write."""
    return URL((base_url if base_url.isascii() else str(URL(base_url))) + target, encoded=True)


@contextmanager
def _translated(upstream: str) -> Iterator[None]:
    """The one place where aiohttp's exceptions become hal0's."""
    try:
        yield
    except ConnectionTimeoutError:
        raise unreachable(upstream, "it did not take the connection in time") from None
    except ClientConnectorError as error:
        raise unreachable(upstream, _reason(error)) from error
    except (ServerDisconnectedError, ClientOSError, ConnectionResetError) as error:
        raise _Dropped(unreachable(upstream, "it closed the connection")) from error
    except ClientError as error:
        raise broken(upstream, f"its answer is not HTTP ({type(error).__name__})") from error
    except ValueError as error:  # a port that cannot be, a name that is none: the configuration's grammar is wider
        raise unreachable(upstream, f"its base_url is no address ({error})") from error


def silent(upstream: str, seconds: float) -> Hal0Error:
    return Hal0Error(
        "upstream.timeout",
        f"cannot wait longer: upstream {upstream!r} was silent for {seconds:g} s",
        details={"upstream": upstream},
    )


def broken(upstream: str, why: str) -> Hal0Error:
    return Hal0Error(
        "upstream.broken", f"cannot use the answer of upstream {upstream!r}: {why}", details={"upstream": upstream}
    )


def _redirecting(upstream: str, response: ClientResponse) -> Hal0Error:
    """Most often its base_url says http where https is meant. What else stands in the address may be secret."""
    try:
        onward = response.url.join(URL(response.headers.get("Location", "")))
        where = f"{onward.origin()}{onward.raw_path}"[:200]
    except ValueError:
        where = "what is no address"
    error = broken(upstream, f"it redirects ({response.status}) to {where}, which hal0 does not follow")
    error.hint = "Set its base_url to where it really is, should you trust that."
    return error


def unreachable(upstream: str, why: str, *, retry_after_s: float | None = None) -> Hal0Error:
    return Hal0Error(
        "upstream.unreachable",
        f"cannot reach upstream {upstream!r}: {why}",
        details={"upstream": upstream},
        hint=f"hal0ctl upstream test {upstream}",
        retry_after_s=retry_after_s,
    )


def _reason(error: ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "verify_message", "") or f"no TLS with it ({cause.reason})"
    # asyncio's own text repeats the address; that of a name that is not known has a negative number.
    number = cause.errno or 0
    return os.strerror(number) if number > 0 else cause.strerror or "no connection"


def _has(headers: Headers, name: str) -> bool:
    return any(given.lower() == name for given, _ in headers)


async def _more(upstream: str, response: ClientResponse, between_bytes_s: float) -> bytes:
    try:
        async with asyncio.timeout(between_bytes_s):
            return await response.content.readany()
    except TimeoutError:
        raise silent(upstream, between_bytes_s) from None
    except (ClientError, OSError) as error:
        raise broken(upstream, "it broke off") from error


async def _bounded(upstream: str, response: ClientResponse) -> bytes:
    read = bytearray()
    while piece := await _more(upstream, response, _LIST_SILENCE_S):
        read += piece
        if len(read) > _MOST_LIST_BYTES:
            raise broken(upstream, "its model list is too long")
    return bytes(read)
