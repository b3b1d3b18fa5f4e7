"""Which headers of a client pass to an upstream: what concerns this machine stays here."""

from typing import Final

from hal0.dispatch.headers import HOP_BY_HOP, RawHeaders, passing
from hal0.dispatch.unpacking import READABLE
from hal0.upstreams.link import VIA

# Of the client: its credentials and where it is are hal0's to know. The rest is written anew for the upstream.
_STAYS_HERE: Final = HOP_BY_HOP | frozenset(
    {
        *(b"authorization", b"cookie", b"x-api-key", b"origin", b"referer", b"host", b"content-length", b"expect"),
        *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port"),
        *(b"x-real-ip",),
    }
)
_OURS: Final = b"x-hal0-"
_ACCEPTS: Final = b"accept-encoding"
_WAY: Final = VIA.lower().encode()


def outbound(client: RawHeaders, *, identity: bool) -> list[tuple[str, str]]:
    """The client's headers for an upstream, in their order and spelling; `identity` asks for an unpacked answer.

    Values are bytes, which may be anything, read as Latin-1.
    """
    passed = [
        (name.decode("latin-1"), _readable(value) if name.lower() == _ACCEPTS else value.decode("latin-1"))
        for name, value in passing(client, _STAYS_HERE | {_ACCEPTS} if identity else _STAYS_HERE)
        if not name.lower().startswith(_OURS)
    ]
    return [*passed, ("Accept-Encoding", "identity")] if identity else passed


def via(client: RawHeaders) -> str | None:
    """By which hal0 the request has come."""
    ways = [value.decode("latin-1") for name, value in client if name.lower() == _WAY]
    return ", ".join(ways) or None


def _readable(accepted: bytes) -> str:
    """Those packings of the client's that hal0 reads too, as the client wrote them."""
    given = [coding.strip() for coding in accepted.decode("latin-1").split(",")]
    return ", ".join(it for it in given if it.partition(";")[0].strip().lower() in READABLE) or "identity"
