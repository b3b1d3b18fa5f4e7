"""Which headers pass between a client and an upstream: what concerns this machine, or the other, stays there."""

from typing import Final

from hal0.dispatch.headers import HOP_BY_HOP, RawHeaders, passing

# Of the client: its credentials and where it is are hal0's to know. The rest is written anew for the upstream.
_STAYS_HERE: Final = HOP_BY_HOP | frozenset(
    {
        *(b"authorization", b"cookie", b"x-api-key", b"origin", b"referer", b"host", b"content-length", b"expect"),
        *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port"),
        *(b"x-real-ip",),
    }
)
# Of the upstream: what a server says of its own origin is not true of hal0's, which a browser would take it for.
_STAYS_THERE: Final = frozenset(
    {
        *(b"set-cookie", b"strict-transport-security", b"alt-svc", b"clear-site-data", b"nel", b"report-to"),
        *(b"x-request-id", b"request-id"),  # hal0 gives its own
    }
)
_OURS: Final = b"x-hal0-"


def outbound(client: RawHeaders) -> list[tuple[str, str]]:
    """The client's headers for an upstream, in their order and spelling."""
    return [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in passing(client, _STAYS_HERE)
        if not name.lower().startswith(_OURS)
    ]


def inbound(upstream: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The upstream's headers for a client; `answer_head` leaves out those of a connection."""
    return [
        header for header in upstream if (name := header[0].lower()) not in _STAYS_THERE and not name.startswith(_OURS)
    ]
