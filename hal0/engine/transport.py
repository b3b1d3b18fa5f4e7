"""A lean HTTP client for podman's Unix socket: every call has a deadline, every failure is a Hal0Error.

Connections are not kept: a new one costs a tenth of a millisecond, and a kept one that died with its service would
fail the next call, which for a POST cannot be told from a call that was carried out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from hal0.engine.translate import NOT_PODMAN_HINT, Subject, one_line, refusal, timed_out, unreachable
from hal0.errors import Hal0Error
from hal0.lib.jsonio import JSONDecodeError, dumps, loads

API: Final = "/v4.0.0/libpod"  # the oldest API that has all we use; 4.x and 5.x answer it alike
DOCKER_API: Final = "/v1.41"
CALL_S: Final = 10.0  # ordinary calls take milliseconds; ten seconds is a stalled service, not a slow one
PING_S: Final = 2.0
Params = Mapping[str, str] | Sequence[tuple[str, str]] | None
_READ_BUFFER: Final = 1024 * 1024  # readline() refuses lines longer than twice this; build output has long lines


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes


class Transport:
    """Calls and streams on one socket. `hint` supplies the cure shown when nobody answers."""

    def __init__(self, socket: Path, *, hint: Callable[[], str | None] = lambda: None) -> None:
        self.socket = socket
        self._hint = hint
        self._session: aiohttp.ClientSession | None = None

    async def ping(self) -> str:
        """The API version. Raises engine.unreachable, engine.timeout or engine.not_podman."""
        subject = Subject("reach podman")
        async with self._guarded(subject, PING_S):
            response = await self._send("GET", "/_ping")
            async with response:
                await response.read()
        version = response.headers.get("Libpod-API-Version")
        if version is None:
            raise Hal0Error(
                "engine.not_podman",
                f"cannot use {self.socket}: another engine answers there, not podman",
                hint=NOT_PODMAN_HINT,
            )
        return version

    async def call(
        self,
        method: str,
        path: str,
        subject: Subject,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        timeout_s: float = CALL_S,
    ) -> Reply:
        """One short request below API; statuses under 400 (304 among them) are successes."""
        async with self._guarded(subject, timeout_s):
            data = None if json is None else dumps(json)
            response = await self._send(method, API + path, params=params, data=data)
            async with response:
                reply = Reply(response.status, await response.read())
        if reply.status >= 400:
            raise refusal(reply.status, reply.body, subject)
        return reply

    async def json(
        self,
        path: str,
        subject: Subject,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        json: Any = None,
        timeout_s: float = CALL_S,
    ) -> Any:
        """Like `call`, for answers that are documents; one that is no JSON is engine.failed."""
        reply = await self.call(method, path, subject, params=params, json=json, timeout_s=timeout_s)
        try:
            return loads(reply.body)
        except JSONDecodeError as error:
            raise Hal0Error("engine.failed", f"cannot {subject.doing}: podman's answer is not JSON") from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        subject: Subject,
        *,
        params: Params = None,
        data: AsyncIterator[bytes] | None = None,
        open_s: float | None = CALL_S,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A long answer, read at the caller's pace; `path` is absolute, `open_s` bounds the wait for its head: None
        leaves that to the caller.

        `data` is a tar. Leaving early closes the connection, which makes podman stop what it does for us.
        """
        async with self._guarded(subject, open_s):
            response = await self._send(method, path, params=params, data=data, content_type="application/x-tar")
            failed = response.status >= 400
            body = await response.read() if failed else b""
        try:
            if failed:
                raise refusal(response.status, body, subject)
            yield response.content
        except aiohttp.ClientError as error:
            raise unreachable(self.socket, subject, one_line(str(error)), self._hint()) from error
        finally:
            response.close()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self.socket), force_close=True, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(), auto_decompress=False, read_bufsize=_READ_BUFFER
            )
        headers = {} if data is None else {"Content-Type": content_type}
        return await self._session.request(method, f"http://podman{path}", params=params, data=data, headers=headers)

    @asynccontextmanager
    async def _guarded(self, subject: Subject, timeout_s: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            if timeout_s is None:
                raise  # the caller's own
            raise timed_out(subject, timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self.socket, subject, one_line(str(error)), self._hint()) from error


def json_filters(**filters: str | list[str]) -> str:
    """Podman's `filters` parameter: every value a list, as the API wants it."""
    return dumps({key: value if isinstance(value, list) else [value] for key, value in filters.items()}).decode()
