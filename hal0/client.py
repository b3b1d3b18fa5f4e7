"""Synchronous client of hal0's own API over TCP or its Unix socket.

    ClientError
      Unreachable      nobody answers at the target; says which target and who chose it
      ApiError         hal0 answered with an error envelope

The command line and the tests use it; it reaches no server package, so that `hal0ctl` starts quickly.
"""

import json
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from hal0.lib import http1

Json = dict[str, Any]

DEFAULT_TIMEOUT_S: Final = 15.0  # between two bytes of an answer; an operator's verb answers 202 at once
STREAM_TIMEOUT_S: Final = 30.0  # hal0 sends a heartbeat every 10 s, so three missed ones mean that it is gone
MAX_BODY_BYTES: Final = 64 * 1024 * 1024  # nothing hal0 answers with JSON comes near; a stranger's endless answer ends


def part(name: object) -> str:
    """What somebody typed, as one part of a path: a space, a slash or an umlaut stays one, and names nothing else."""
    return quote(str(name), safe="")


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


class SseEvent(NamedTuple):
    """One server-sent event; `data` is decoded JSON, or the bare text where it is none."""

    event: str
    id: str | None
    data: Any


class _Opened(NamedTuple):
    """An answer whose head has been read."""

    sock: socket.socket
    answer: http1.Answer

    def close(self) -> None:
        self.sock.close()


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
        rest = b""
        while data := self._opened.answer.read1():
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
            raw = opened.answer.read(MAX_BODY_BYTES)
        return self._decoded(opened.answer.status, raw)

    def stream(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = 0.0
    ) -> Stream:
        """An answer read as server-sent events. Raises as `request`."""
        with _translated(self.target):
            opened = self._open(method, path, body, timeout_s or STREAM_TIMEOUT_S)
            status = opened.answer.status
            if status < 300:
                return Stream(opened, self.target)
            with closing(opened):
                raw = opened.answer.read(MAX_BODY_BYTES)
        self._decoded(status, raw)
        raise Unreachable(self.target, f"it answered {status} where a stream was expected")

    def events(self, last_id: str | None = None) -> Stream:
        """`/api/events`, from after `last_id` where the server still knows it."""
        return self.stream("GET", "/api/events" + (f"?after={quote(last_id)}" if last_id else ""))

    def _open(self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> _Opened:
        headers = [("Accept", "application/json, text/event-stream"), ("User-Agent", "hal0ctl")]
        if self.target.api_key:
            headers.append(("Authorization", f"Bearer {self.target.api_key}"))
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers.append(("Content-Type", "application/json"))
        started = time.monotonic()
        sock, host, prefix = self._connected(timeout_s)
        try:
            sock.sendall(http1.request(method, host, prefix + path, headers, payload))
            opened = _Opened(sock, http1.Answer(sock))
        except BaseException:
            sock.close()
            raise
        if self._trace:
            took_ms = (time.monotonic() - started) * 1000
            key = "  Authorization: Bearer ***" if self.target.api_key else ""
            self._trace(f"{method} {self.target.url}{path}{key}  ->  {opened.answer.status} in {took_ms:.0f} ms")
        return opened

    def _connected(self, timeout_s: float) -> tuple[socket.socket, str, str]:
        """A connection to the target, the host to name there, and what stands before every path."""
        if path := self.target.socket_path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout_s)
                sock.connect(path)
            except BaseException:
                sock.close()
                raise
            return sock, "localhost", ""
        return _over_tcp(self.target.url, timeout_s)

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


def _over_tcp(url: str, timeout_s: float) -> tuple[socket.socket, str, str]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    sock = socket.create_connection((parts.hostname or "", parts.port or (443 if secure else 80)), timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            import ssl  # a tenth of hal0ctl's start, for those who need it

            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
    except BaseException:
        sock.close()
        raise
    return sock, parts.netloc.rpartition("@")[2], parts.path


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    """The one place where the standard library's network exceptions become Unreachable."""
    try:
        yield
    except TimeoutError as e:
        raise Unreachable(target, "no answer in time") from e
    except http1.BrokenOff as e:
        raise Unreachable(target, "the connection broke off in the middle of the answer") from e
    except http1.NotHttp as e:
        raise Unreachable(target, f"no valid HTTP answer ({e})") from e
    except OSError as e:
        raise Unreachable(target, e.strerror or str(e)) from e
