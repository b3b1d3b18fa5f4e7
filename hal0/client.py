"""Synchronous client of hal0's own API over TCP or its Unix socket, with the standard library alone.

    ClientError
      Unreachable      nobody answers at the target; says which target and who chose it
      ApiError         hal0 answered with an error envelope

The command line and the tests use it; it reaches no server package, so that `hal0ctl` starts quickly.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

Json = dict[str, Any]

DEFAULT_TIMEOUT_S: Final = 15.0  # between two bytes of an answer; an operator's verb answers 202 at once
STREAM_TIMEOUT_S: Final = 30.0  # hal0 sends a heartbeat every 10 s, so three missed ones mean that it is gone
READ_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024  # nothing hal0 answers with JSON comes near; a stranger's endless answer ends


class ClientError(Exception):
    """A call that did not bring an answer. `code`, `hint` and `details` as in the error envelope."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details: Json = {}
        self.request_id: str | None = None


class Unreachable(ClientError):
    """No connection, or none that lasted until the answer."""

    def __init__(self, target: "Target", reason: str) -> None:
        hint = "start it with: hal0 serve (or in the background: hal0ctl up)"
        super().__init__("client.unreachable", f"cannot reach hal0 at {target.described()}: {reason}", hint=hint)
        self.target = target


class ApiError(ClientError):
    """An error envelope; `status` is the HTTP status, 0 when it came inside a stream or a job."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        status: int = 0,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.details = dict(details or {})
        self.request_id = request_id
        self.status = status

    @classmethod
    def from_member(cls, error: Mapping[str, Any], *, status: int = 0) -> "ApiError":
        """From the `error` member of an envelope, a stream's error frame or a failed job."""
        return cls(
            str(error.get("code") or "unknown"),
            str(error.get("message") or "no message"),
            hint=error.get("hint"),
            details=error.get("details"),
            request_id=error.get("request_id"),
            status=status,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where hal0 is said to be. `origin` names who said so: --url, HAL0_URL, a context, or the default."""

    url: str
    origin: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def socket_path(self) -> str | None:
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None

    def described(self) -> str:
        return f"{self.url} ({self.origin})"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One server-sent event; `data` is decoded JSON, or the bare text where it is none."""

    event: str
    id: str | None
    data: Any


@dataclass(frozen=True, slots=True)
class _Opened:
    """An answer whose head has been read. The socket is kept here, as http.client may already have let go of it."""

    connection: http.client.HTTPConnection
    sock: socket.socket
    response: http.client.HTTPResponse

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Stream:
    """An answer that is still coming. Closed by whoever iterates; another thread may only `interrupt` it."""

    def __init__(self, opened: _Opened, target: Target) -> None:
        self._opened = opened
        self._target = target

    def __iter__(self) -> Iterator[SseEvent]:
        """As `events`, but raises ApiError for an error frame (the status line was long gone)."""
        with closing(self.events()) as events:
            for event in events:
                if isinstance(event.data, dict) and isinstance(event.data.get("error"), dict):
                    raise ApiError.from_member(event.data["error"])
                yield event

    def events(self) -> Generator[SseEvent, None, None]:
        """Events, error frames too, until the server ends the stream, then closes it.

        Raises Unreachable when it breaks off.
        """
        fields: dict[str, list[str]] = {}
        with closing(self), _translated(self._target):
            for line in self._lines():
                name, _, value = line.partition(":")
                if name:
                    fields.setdefault(name, []).append(value.removeprefix(" "))
                elif not line and fields:
                    event, fields = _event(fields), {}
                    yield event

    def _lines(self) -> Iterator[str]:
        """By read1, which tells a chunked answer that broke off from one that ended; readline does not."""
        rest = b""
        while data := self._opened.response.read1(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")

    def interrupt(self) -> None:
        """Ends the iteration of another thread."""
        with suppress(OSError):  # already gone, which is what was wanted
            self._opened.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._opened.close()


def _event(fields: Mapping[str, list[str]]) -> SseEvent:
    text = "\n".join(fields.get("data", []))
    try:
        data = json.loads(text)
    except ValueError:
        data = text
    return SseEvent(fields.get("event", ["message"])[-1], fields.get("id", [None])[-1], data)


class Client:
    """One target. `timeout_s` bounds each wait for bytes; `trace` gets a line per request, without secrets."""

    def __init__(
        self, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S, trace: Callable[[str], None] | None = None
    ):
        self.target = target
        self.timeout_s = timeout_s
        self._trace = trace

    def get(self, path: str) -> Json:
        return self.request("GET", path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return self.request("POST", path, body or {})

    def delete(self, path: str) -> Json:
        return self.request("DELETE", path)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = 0.0) -> Json:
        """One JSON answer. Raises ApiError for an error envelope, Unreachable when there is none."""
        with _translated(self.target), closing(self._open(method, path, body, timeout_s or self.timeout_s)) as opened:
            raw = opened.response.read(MAX_BODY_BYTES)
        return self._decoded(opened.response.status, raw)

    def stream(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = 0.0
    ) -> Stream:
        """An answer read as server-sent events. Raises as `request`."""
        with _translated(self.target):
            opened = self._open(method, path, body, timeout_s or STREAM_TIMEOUT_S)
            status = opened.response.status
            if status < 300:
                return Stream(opened, self.target)
            with closing(opened):
                raw = opened.response.read(MAX_BODY_BYTES)
        self._decoded(status, raw)
        raise Unreachable(self.target, f"it answered {status} where a stream was expected")

    def events(self, last_id: str | None = None) -> Stream:
        """`/api/events`, from after `last_id` where the server still knows it."""
        return self.stream("GET", "/api/events" + (f"?after={quote(last_id)}" if last_id else ""))

    def _open(self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> _Opened:
        connection = self._connection(timeout_s)
        headers = {"Accept": "application/json, text/event-stream", "User-Agent": "hal0ctl"}
        if self.target.api_key:
            headers["Authorization"] = f"Bearer {self.target.api_key}"
        payload = None
        if body is not None:
            payload, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        prefix = "" if self.target.socket_path else urlsplit(self.target.url).path
        started = time.monotonic()
        try:
            connection.request(method, prefix + path, payload, headers)
            opened = _Opened(connection, connection.sock, connection.getresponse())
        except BaseException:
            connection.close()
            raise
        if self._trace:
            took_ms = (time.monotonic() - started) * 1000
            key = "  Authorization: Bearer ***" if self.target.api_key else ""
            self._trace(f"{method} {self.target.url}{path}{key}  ->  {opened.response.status} in {took_ms:.0f} ms")
        return opened

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if path := self.target.socket_path:
            return _UnixConnection(path, timeout_s)
        parts = urlsplit(self.target.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=timeout_s)

    def _decoded(self, status: int, raw: bytes) -> Json:
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(
                self.target, f"the program there does not answer like hal0 (status {status}, no JSON object)"
            )
        if status < 400:
            return answer
        error = answer.get("error")
        if not isinstance(error, dict):
            raise Unreachable(self.target, f"the program there does not answer like hal0 (status {status})")
        raise ApiError.from_member(error, status=status)


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    """The one place where the standard library's network exceptions become Unreachable."""
    try:
        yield
    except TimeoutError as e:
        raise Unreachable(target, "no answer in time") from e
    except http.client.IncompleteRead as e:
        raise Unreachable(target, "the connection broke off in the middle of the answer") from e
    except http.client.HTTPException as e:
        raise Unreachable(target, f"no valid HTTP answer ({type(e).__name__})") from e
    except OSError as e:
        raise Unreachable(target, e.strerror or str(e)) from e
