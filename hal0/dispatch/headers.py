"""Which headers pass, in both directions, and which never reach a slot."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from hal0.providers.base import Endpoint

RawHeaders = Sequence[tuple[bytes, bytes]]

END: Final = b"\r\n\r\n"  # of a head
# Where the length of the body stands, as nearly everybody writes it.
LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,9})(?=\r\n)")
_SECONDS: Final = re.compile(rb"[0-9]{1,9}")

# Meant for one connection only (RFC 9110 7.6.1), plus what each side states anew about its own connection.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# The client's credentials and origin are for hal0 alone; the rest is written anew for the slot.
_NEVER_TO_A_SLOT: Final = HOP_BY_HOP | {
    b"authorization",
    b"cookie",
    b"x-api-key",
    b"origin",
    b"host",
    b"content-length",
    b"expect",
    b"x-hal0-hold",
}
# The same where hal0 has to read the answer, uncompressed.
_NEVER_TO_A_READ_SLOT: Final = _NEVER_TO_A_SLOT | {b"accept-encoding"}
# hal0 says these anew: the length of what it sends, when, and which request it answers. What a server says of its own
# origin is not true of hal0's, which a browser would take it for.
_NEVER_TO_A_CLIENT: Final = HOP_BY_HOP | {
    *(b"content-length", b"date", b"x-request-id", b"request-id"),
    *(b"set-cookie", b"strict-transport-security", b"alt-svc", b"clear-site-data", b"nel", b"report-to"),
}
# Which web pages may call is hal0's decision (access.cors_origins), never an engine's default of "everyone"; and
# nobody else speaks for hal0.
_NEVER_TO_A_CLIENT_BEGIN: Final = (b"access-control-", b"x-hal0-")

_REMEMBERED: Final = 64  # beginnings of answers; an engine has a handful
# Answers with these never have a body, nor say how long it is (RFC 9110 8.6).
BODILESS: Final = (204, 304)


def get(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first value of a header; `name` in lower case."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return None


def retry_after_s(headers: RawHeaders) -> float | None:
    """How long an answer asks its client to wait, if it says so in seconds."""
    said = (get(headers, b"retry-after") or b"").strip()
    return float(said) if _SECONDS.fullmatch(said) else None


def passing(headers: RawHeaders, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers, in order and as spelled, without `dropped` and what their Connection header names."""
    named = get(headers, b"connection")
    if named is not None:
        values = b",".join(value for name, value in headers if name.lower() == b"connection")
        dropped |= {token.strip().lower() for token in values.split(b",")}
    return [header for header in headers if header[0].lower() not in dropped]


def is_encoded(headers: RawHeaders) -> bool:
    """Whether the bytes of an answer are packed, so that nobody but its client reads them."""
    return (get(headers, b"content-encoding") or b"identity").strip().lower() not in (b"", b"identity")


def retyped(headers: RawHeaders, content_type: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer whose body hal0 has written anew: of another kind, and packed no more."""
    kept = [header for header in headers if header[0].lower() not in (b"content-type", b"content-encoding")]
    return [*kept, (b"Content-Type", content_type.encode("latin-1"))]


def request_start(method: str, target: bytes, client: RawHeaders, to: Endpoint, *, identity: bool) -> bytes:
    """The request line and headers for a slot, in the client's order and spelling; `request_end` ends them.

    `identity` asks for an uncompressed answer, for those that hal0 has to read.
    """
    shown = f"[{to.host}]:{to.port}" if ":" in to.host else f"{to.host}:{to.port}"
    lines = [b"%b %b HTTP/1.1\r\nHost: %b" % (method.encode(), target, shown.encode())]
    kept = passing(client, _NEVER_TO_A_READ_SLOT if identity else _NEVER_TO_A_SLOT)
    lines += [b"%b: %b" % header for header in kept]
    if identity:
        lines.append(b"Accept-Encoding: identity")
    if to.secret:
        lines.append(b"Authorization: Bearer %b" % to.secret.encode())
    lines.append(b"")
    return b"\r\n".join(lines)


def request_end(length: int | None) -> bytes:
    """The length of the body, None where there is none, and the empty line."""
    return b"\r\n" if length is None else b"Content-Length: %d\r\n\r\n" % length


def lines(own: Mapping[str, str]) -> bytes:
    """Headers of hal0's own as they stand in a head."""
    return "".join([f"{name}: {value}\r\n" for name, value in own.items()]).encode()


def answer_head(status: int, reason: str, theirs: RawHeaders, own: bytes, length: int | None) -> bytes:
    """The status line and headers for a client: those of whoever answers that may pass, then hal0's `own`."""
    start = answer_start(status, reason, tuple(theirs))
    if length is None or status in BODILESS:
        return b"%b%b\r\n" % (start, own)
    return b"%bContent-Length: %d\r\n%b\r\n" % (start, length, own)


@lru_cache(maxsize=_REMEMBERED)
def answer_start(status: int, reason: str, theirs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The part of an answer's head that an engine says again and again."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason.encode("latin-1", "replace"))]
    kept = passing(theirs, _NEVER_TO_A_CLIENT)
    lines += [b"%b: %b\r\n" % header for header in kept if not header[0].lower().startswith(_NEVER_TO_A_CLIENT_BEGIN)]
    return b"".join(lines)
