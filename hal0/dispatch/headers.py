"""Which headers pass, in both directions, and which never reach a slot."""

from collections.abc import Iterable
from typing import Final

RawHeaders = Iterable[tuple[bytes, bytes]]

# Meant for one connection only (RFC 9110 7.6.1), plus what each side states anew about its own connection.
_HOP_BY_HOP: Final = frozenset(
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
_NEVER_TO_A_SLOT: Final = _HOP_BY_HOP | {
    b"authorization",
    b"cookie",
    b"x-api-key",
    b"origin",
    b"host",
    b"content-length",
    b"expect",
    b"x-hal0-hold",
}
# Which web pages may call is hal0's decision (access.cors_origins), never an engine's default of "everyone".
_CORS: Final = b"access-control-"


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    return frozenset(
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    )


def request_head(
    target: bytes, client: RawHeaders, *, host: str, port: int, secret: str, length: int, identity: bool
) -> bytes:
    """The request line and headers for a slot, in the client's order and spelling, ending in the empty line.

    `identity` asks for an uncompressed answer, for those that hal0 has to read.
    """
    client = tuple(client)
    dropped = _NEVER_TO_A_SLOT | _named_by_connection(client)
    if identity:
        dropped |= {b"accept-encoding"}
    shown = f"[{host}]" if ":" in host else host
    lines = [b"POST %b HTTP/1.1\r\nHost: %b" % (target, f"{shown}:{port}".encode())]
    lines += [b"%b: %b" % header for header in client if header[0].lower() not in dropped]
    if identity:
        lines.append(b"Accept-Encoding: identity")
    if secret:
        lines.append(b"Authorization: Bearer %b" % secret.encode())
    lines.append(b"Content-Length: %d\r\n\r\n" % length)
    return b"\r\n".join(lines)


def answer_headers(slot: RawHeaders) -> list[tuple[str, str]]:
    """What the client sees of an answer's headers: all but hop-by-hop ones and the engine's CORS."""
    slot = tuple(slot)
    dropped = _HOP_BY_HOP | _named_by_connection(slot)
    return [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in slot
        if (lower := name.lower()) not in dropped and not lower.startswith(_CORS)
    ]
