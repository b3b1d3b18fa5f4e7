"""The access rule: may this caller use a route of this class? Pure.

The Unix socket gives everything: whoever may open the file is the operator. Over TCP only `/v1` is given away, and only
to programs of this machine; a proxy in front makes the whole network look like this machine, so everything that
smells of one (its headers, its account, a foreign host name or page) takes that right away again.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from hal0.errors import Hal0Error
from hal0.vocab import Access

OWNERLESS: Final = -1  # a connection that no process holds any more
_FORWARDING: Final = frozenset({"forwarded", "via", "x-real-ip"})
_FORWARDING_PREFIX: Final = "x-forwarded-"
_FIRST_PERSON: Final = 1000  # below are system accounts, which is where proxies run
_UNMAPPED: Final = 65534  # "nobody": a proxy's account on some systems, and anybody from outside a user namespace
_REMEMBERED: Final = 256  # these are asked for every request, mostly about the same few texts

_USE_THE_SOCKET: Final = "On the machine itself use hal0ctl: it goes through hal0's own socket."
_COME_CLOSER: Final = "Call from a program on the machine itself, for example through: ssh -L 8080:localhost:8080 HOST"


class Caller(NamedTuple):
    """What is known of whoever sent a request, before its body is read.

    `operator`: it came through hal0's Unix socket. `peer` is the address of the other end, `hosts` every Host header,
    `forwarded` the first forwarding header found. `peer_uid` is the account that holds the connection's other end: None
    where this machine does not tell, OWNERLESS where nobody does. `keyless_off` says why nobody may use `/v1`
    without a key here, None where local programs may.
    """

    operator: bool = False
    peer: str | None = None
    hosts: tuple[str, ...] = ()
    origin: str | None = None
    forwarded: str | None = None
    peer_uid: int | None = None
    own_uid: int = 0
    keyless_off: str | None = None


def decide(access: Access, caller: Caller) -> Hal0Error | None:
    """None when the caller may; else the refusal. Nobody has keys yet, so every refusal is auth.required."""
    if len(caller.hosts) > 1:
        return Hal0Error("request.invalid", "cannot tell who is asked for: there is more than one Host header")
    if access is Access.OPEN or caller.operator:
        return None
    if access is Access.INFERENCE:
        why = _not_local(caller)
        message = f"cannot let this through without a key: {why}"
        return None if why is None else Hal0Error("auth.required", message, hint=_COME_CLOSER)
    message = "cannot let this through: over TCP it takes a key"
    return Hal0Error("auth.required", message, hint=_USE_THE_SOCKET)


def _not_local(caller: Caller) -> str | None:
    """Why the caller is not a program of this machine that speaks for itself; None when it is."""
    if caller.keyless_off is not None:
        return caller.keyless_off
    if not is_loopback(caller.peer):
        return "it comes from another machine"
    if caller.forwarded is not None:
        return f"it came through a proxy ({caller.forwarded})"
    if not caller.hosts or not is_local_host(caller.hosts[0]):
        return "its Host header does not name this machine's loopback"
    if caller.origin is not None and not _same_origin(caller.origin, caller.hosts[0]):
        return "it comes from another web page (Origin)"
    if caller.peer_uid is not None and not _speaks_for_itself(caller.peer_uid, caller.own_uid):
        return "it comes from a system account, as proxies do"
    return None


def _speaks_for_itself(uid: int, own_uid: int) -> bool:
    return uid in (0, own_uid) or (uid >= _FIRST_PERSON and uid != _UNMAPPED)


@lru_cache(maxsize=_REMEMBERED)
def is_loopback(address: str | None) -> bool:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


@lru_cache(maxsize=_REMEMBERED)
def is_local_host(host: str) -> bool:
    """Whether a Host header's value names loopback; the port may be any: an SSH tunnel has its own."""
    name = _authority(host)
    return name is not None and (name == "localhost" or name.endswith(".localhost") or is_loopback(name))


def _authority(host: str) -> str | None:
    """The name in `name[:port]` in lower case; None for what no client would write there."""
    if not host or set(host) & set("/?#@\\ \t"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    return parts.hostname


def _same_origin(origin: str, host: str) -> bool:
    """Whether a page came from the very address that it calls, port included."""
    scheme, separator, authority = origin.lower().partition("://")
    return bool(separator) and scheme in ("http", "https") and authority == host.lower()


def forwarding_header(names: Iterable[str]) -> str | None:
    """The first header that only a proxy adds."""
    for name in names:
        if _forwards(name):
            return name
    return None


@lru_cache(maxsize=_REMEMBERED)
def _forwards(name: str) -> bool:
    lowered = name.lower()
    return lowered in _FORWARDING or lowered.startswith(_FORWARDING_PREFIX)
