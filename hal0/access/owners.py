"""Which account holds the other end of a local TCP connection, as the kernel knows it."""

import asyncio
import math
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from hal0.access.guard import OWNERLESS
from hal0.access.sockdiag import End, Held, holder
from hal0.lib.aside import Aside, in_a_thread

Address = tuple[str, int]
Ask = Callable[[End, End], Held | None]

_TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_DEADLINE_S: Final = 2.0  # a table of 100 000 connections takes a tenth of that
_TRY_AGAIN_S: Final = 60.0
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
# Fields of a line, after the two addresses: state, queues, timer, retransmits, uid, timeout, inode.
_UID, _INODE = 4, 6


class Owners:
    """Asks once per connection; where the kernel answers no single question, by its tables, in few reads for many."""

    def __init__(
        self,
        read: Callable[[], str | None] | None = None,
        ask: Ask | None = None,
        *,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        """`read` gives both tables as one text, or None where they cannot be read; it runs in a thread. `ask` knows
        of one connection, or not (None); where it has answered before, it never waits."""
        self._ask = ask or holder
        self._read = read or _read_tables
        self._deadline_s = deadline_s
        self._known: WeakKeyDictionary[asyncio.BaseTransport, int] = WeakKeyDictionary()
        self._reading: asyncio.Future[str | None] | None = None
        self._trial = Aside(lambda local, remote: self._ask(local, remote) is not None)
        self._answers = False  # whether single questions are worth asking
        self._try_at = -math.inf  # the event loop's time

    async def of_peer(self, transport: asyncio.BaseTransport, peer: Address, own: Address) -> int | None:
        """The account at `peer`; None where the machine does not tell (in time), OWNERLESS where nobody holds it."""
        if (known := self._known.get(transport)) is not None:
            return known
        try:
            async with asyncio.timeout(self._deadline_s):
                held = await self._held(_end(peer), _end(own))
                table = await self._fresh() if held is None else None
        except (TimeoutError, RuntimeError):  # RuntimeError: the machine has no thread left
            return OWNERLESS
        if held is not None:
            uid = self._known[transport] = held.uid if held.inode else OWNERLESS
            return uid
        if table is None:
            return None
        uid = self._known[transport] = owner_of(table, peer, own)
        return uid

    async def _held(self, peer: End, own: End) -> Held | None:
        """What the kernel answers to a single question; None where it knows nothing, or answers none.

        Which of the two it is, its answer about our own end of the connection tells, which is there. That is found out
        aside, and not again for a while: a kernel that lacks the module looks for it before it says no.
        """
        now = asyncio.get_running_loop().time()
        if not self._answers and now >= self._try_at:
            self._try_at = now + _TRY_AGAIN_S
            self._answers = bool(await self._trial.within(self._deadline_s / 2, own, peer))
        if not self._answers:
            return None
        held = self._ask(peer, own)
        if held is None:  # the client has left, or the kernel has changed
            self._answers, self._try_at = False, now
        return held

    async def _fresh(self) -> str | None:
        """The table, read after this call: a read under way may already have passed our line."""
        under_way = self._reading
        if under_way is not None and not under_way.done():
            await asyncio.wait((under_way,))
        if self._reading is under_way:
            self._reading = in_a_thread(self._read)
        assert self._reading is not None
        return await asyncio.shield(self._reading)


def owner_of(table: str, peer: Address, own: Address) -> int:
    """The account in the line of the connection's other end, or OWNERLESS."""
    for local, remote in zip(_spellings(peer), _spellings(own), strict=True):
        _, found, rest = table.partition(f": {local} {remote} ")
        if found:
            fields = rest.split(maxsplit=_INODE + 1)
            return OWNERLESS if fields[_INODE] == "0" else int(fields[_UID])
    return OWNERLESS


def _end(address: Address) -> End:
    """An IPv4 address is one in every spelling."""
    ip = ip_address(address[0].partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip, address[1]


def _spellings(address: Address) -> list[str]:
    """An address as the kernel prints it; an IPv4 one may stand in either table."""
    ip, port = _end(address)
    forms = [ip.packed, _MAPPED_PREFIX + ip.packed] if isinstance(ip, IPv4Address) else [ip.packed]
    return [f"{_in_words(packed)}:{port:04X}" for packed in forms]


def _in_words(packed: bytes) -> str:
    """The kernel prints addresses as 32-bit numbers in the byte order of the machine."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def _read_tables() -> str | None:
    """Both tables; a kernel without IPv6 has one. None when not even that can be read."""
    texts = []
    for path in _TABLES:
        try:
            texts.append(path.read_text())
        except OSError:
            continue
    return "".join(texts) or None
