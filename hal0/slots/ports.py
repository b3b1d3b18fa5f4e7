"""Leases of slot ports: one table for all slots, a port for each container, given back when it is not needed."""

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hal0.errors import Hal0Error
from hal0.vocab import PRIMARY_PORT, SlotName

log = logging.getLogger(__name__)

# The port a slot asks for first; 8086 is the seeds' default for the synthesised reranker.
PREFERRED: Final[Mapping[str, int]] = {"primary": PRIMARY_PORT, "embed-rerank": 8086}
# 8081 belongs to `primary` also while it is offline: its address must not move because another slot came first.
RESERVED_FOR: Final[Mapping[int, str]] = {PRIMARY_PORT: "primary"}


class PortLeases:
    """Who holds which port. A lease belongs to a container name, not to a slot: an old one may still be leaving.

    Between two containers of one slot the port is kept for the slot, or another slot could take it in that moment.
    """

    def __init__(self, ports: Sequence[int], *, host: str = "127.0.0.1") -> None:
        self._ports = tuple(ports)
        self._host = host
        self._holders: dict[int, str] = {}

    def adopt(self, port: int, container: str) -> None:
        """A container that runs already has its port."""
        self._holders[port] = container

    def lease(self, slot: SlotName, container: str, *, explicit: int | None, avoid: Iterable[int] = ()) -> int:
        """A free port for `container`; raises slot.port_taken (explicit) or slot.no_free_port."""
        if explicit is not None:
            self._check_explicit(explicit, slot)
            return self._take(explicit, slot, container)
        order = self._order(slot, frozenset(avoid))
        for port in order:
            if self._holders.get(port) in (None, _kept_for(slot)) and self._bindable(port):
                if slot in PREFERRED and port != order[0] and order[0] not in self._holders:
                    log.warning("slot %s: another program has port %d; its own is %d for now", slot, order[0], port)
                return self._take(port, slot, container)
        raise Hal0Error(
            "slot.no_free_port",
            f"cannot give slot {slot} a port: all of {self._ports[0]}-{self._ports[-1]} are taken",
            details={"holders": {str(port): name for port, name in sorted(self._holders.items())}},
        )

    def release(self, container: str) -> None:
        """The container is gone; releasing twice is fine."""
        for port in self._ports_of(container):
            del self._holders[port]

    def keep(self, container: str, slot: SlotName) -> None:
        """The container is gone, and the slot's next one may have its port."""
        for port in self._ports_of(container):
            self._holders[port] = _kept_for(slot)

    def let_go(self, slot: SlotName) -> None:
        """The slot wants no other container: what was kept for it is free."""
        self.release(_kept_for(slot))

    def holders(self) -> Mapping[int, str]:
        return dict(self._holders)

    def _take(self, port: int, slot: SlotName, container: str) -> int:
        self.let_go(slot)  # it has one again
        self._holders[port] = container
        return port

    def _ports_of(self, holder: str) -> list[int]:
        return [port for port, name in self._holders.items() if name == holder]

    def _order(self, slot: SlotName, avoid: frozenset[int]) -> list[int]:
        offset = self._ports[0] - PRIMARY_PORT  # another block of ports keeps the same order
        first = PREFERRED.get(slot)
        wanted = [first + offset] if first is not None else []
        kept_back = {port + offset for port, owner in RESERVED_FOR.items() if owner != slot}
        wanted += [port for port in self._ports_of(_kept_for(slot)) if port not in wanted]
        others = [p for p in self._ports if p not in kept_back and p not in wanted]
        return [p for p in (*wanted, *others) if p not in avoid]

    def _check_explicit(self, port: int, slot: SlotName) -> None:
        holder = self._holders.get(port)
        if holder not in (None, _kept_for(slot)):
            raise Hal0Error("slot.port_taken", f"cannot use port {port}: container {holder} holds it")
        if not self._bindable(port):
            raise Hal0Error(
                "slot.port_taken", f"cannot use port {port}: another program listens there", details={"port": port}
            )

    def _bindable(self, port: int) -> bool:
        """Nobody listens there. Without SO_REUSEADDR, so that a socket in TIME_WAIT counts as taken too."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((self._host, port))
            except OSError:
                return False
        return True


def _kept_for(slot: SlotName) -> str:
    """The holder of a port between two containers; no container has such a name."""
    return f"slot {slot}"
