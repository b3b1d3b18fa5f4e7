"""What addresses and host names say: loopback, private, known, and who is behind a trusted proxy. Pure."""

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

_FORWARDING: Final = frozenset({"forwarded", "via", "x-real-ip"})
_FORWARDING_PREFIX: Final = "x-forwarded-"
_REMEMBERED: Final = 256  # these are asked for every request, mostly about the same few texts
# What a home's or a firm's own network uses, and nothing beyond (RFC 1918, 3927, 4193, 4291).
_PRIVATE: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"))
)


@lru_cache(maxsize=_REMEMBERED)
def is_loopback(address: str | None) -> bool:
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


@lru_cache(maxsize=_REMEMBERED)
def is_private(address: str | None) -> bool:
    """Whether it lies in a private range; loopback does not: a proxy on this machine makes everybody look like it."""
    return within(address, _PRIVATE)


def within(address: str | None, networks: Iterable[object]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)  # type: ignore[operator]


def _parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    """An address, an IPv4 one that came through an IPv6 socket as what it is; None for what is no address."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


@lru_cache(maxsize=_REMEMBERED)
def is_local_host(host: str) -> bool:
    """Whether a Host header's value names loopback; the port may be any: an SSH tunnel has its own."""
    name = host_name(host)
    return name is not None and (name == "localhost" or name.endswith(".localhost") or is_loopback(name))


def is_known_host(host: str, names: Collection[str]) -> bool:
    """Whether it names hal0: by address, by loopback, or by one of `names` (lower case).

    A page whose own name was pointed at this machine (DNS rebinding) can neither send an address nor another name.
    """
    name = host_name(host)
    return name is not None and (_parsed(name) is not None or is_local_host(host) or name in names)


def host_name(host: str) -> str | None:
    """The name in `name[:port]` in lower case; None for what no client would write there."""
    if not host or set(host) & set("/?#@\\ \t"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    return parts.hostname


def same_origin(origin: str, host: str) -> bool:
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


def client_behind(forwarded_for: Sequence[str], trusted: Sequence[object]) -> str | None:
    """Who a trusted proxy speaks for: the last address in its X-Forwarded-For that is no trusted proxy itself.

    What stands before that one was written by whoever it is. None when the header does not say.
    """
    for part in reversed([part.strip() for value in forwarded_for for part in value.split(",")]):
        if not within(part, trusted):
            return part if _parsed(part) is not None else None
    return None
