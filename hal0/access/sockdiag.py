"""Asks the kernel about one TCP connection of this machine: a question of a few microseconds, whatever else is open.

The tables in /proc hold every connection, so that 200 new clients would cost 200 lines each. Kernels without `tcp_diag`
and sandboxes without netlink do not answer, and may look for the missing module on the disk each time they are asked.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

End = tuple[IPv4Address | IPv6Address, int]

_NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20  # both the question and its answer
_REQUEST: Final = 1
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = b"\xff" * 8
_HEADER: Final = struct.Struct("=IHHII")
_ID: Final = struct.Struct("!HH16s16s4s8s")  # ports and addresses in the network's order
_QUESTION: Final = struct.Struct("=BBBBI48s")
_ANSWER: Final = struct.Struct("=4B48sIIIII")
_ROOM: Final = 4096


class Held(NamedTuple):
    """Who holds a socket; `inode` 0: no process does any more."""

    uid: int
    inode: int


def holder(local: End, remote: End) -> Held | None:
    """Of the connection with these ends; None where the kernel does not know it, or does not answer.

    Waits for nothing where the kernel has `tcp_diag`.
    """
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as kernel:
            kernel.connect((0, 0))
            kernel.send(_question(local, remote))
            return _read(kernel.recv(_ROOM), (local[1], remote[1]))
    except OSError:
        return None


def _question(local: End, remote: End) -> bytes:
    family = socket.AF_INET if local[0].version == 4 else socket.AF_INET6
    ends = _ID.pack(local[1], remote[1], local[0].packed, remote[0].packed, bytes(4), _NO_COOKIE)
    body = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE, ends)
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 0, 0) + body


def _read(answer: bytes, ports: tuple[int, int]) -> Held | None:
    """The kernel offers the listening socket where it knows no connection; that one has no other end."""
    if len(answer) < _HEADER.size + _ANSWER.size:
        return None  # an error
    _, kind, *_ = _HEADER.unpack_from(answer)
    *_, ends, _, _, _, uid, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    if kind != _BY_FAMILY or _ID.unpack(ends)[:2] != ports:
        return None
    return Held(uid, inode)
