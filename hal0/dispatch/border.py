"""Which headers of a client pass to an upstream: what concerns this machine stays here."""

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
_STAYS_HERE_TOO: Final = _STAYS_HERE | {b"accept-encoding"}
_OURS: Final = b"x-hal0-"


def outbound(client: RawHeaders, *, identity: bool) -> list[tuple[str, str]]:
    """The client's headers for an upstream, in their order and spelling; `identity` asks for an unpacked answer."""
    passed = [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in passing(client, _STAYS_HERE_TOO if identity else _STAYS_HERE)
        if not name.lower().startswith(_OURS)
    ]
    return [*passed, ("Accept-Encoding", "identity")] if identity else passed
