"""Which addresses hal0 calls for somebody who chose them. Pure."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

_Address: TypeAlias = IPv4Address | IPv6Address

# Where clouds answer a machine's questions about itself, keys included, beside the link-local ones.
_METADATA: Final = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
# Unspecified addresses mean this machine; `is_global` of older Pythons believes some of the rest.
_NEVER: Final = tuple(
    map(ip_network, ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/128", "fe80::/10", "ff00::/8"))
)
_SHARED: Final = tuple(
    map(ip_network, ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "fc00::/7", "fec0::/10"))
)
# Addresses of the second kind hold one of the first in their last bits: compatible, NAT64 and its local form.
_HOLDING: Final = tuple(map(ip_network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))


def refusal(address: str, *, private: bool) -> str | None:
    """Why this IP address is not called; None: it may be. `private` lets loopback and private networks through."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "it is no address"
    for it in (parsed, *_inside(parsed)):
        if it in _METADATA or _within(it, _NEVER):
            return "hal0 calls no link-local, metadata or broadcast address"
        if not private and (not it.is_global or _within(it, _SHARED)):
            return "hal0 calls no private address for this"
    return None


def _inside(address: _Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 one leads to."""
    if not isinstance(address, IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if _within(address, _HOLDING) and not address.is_loopback:
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _within(address: _Address, networks: tuple[object, ...]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]
