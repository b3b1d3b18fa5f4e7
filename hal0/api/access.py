"""Gathers what is known of a caller and lets the access rule decide, before a byte of the body is read."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from aiohttp import web

from hal0.access.guard import Caller, decide, forwarding_header, is_loopback
from hal0.access.owners import Owners
from hal0.api.middleware import Principal
from hal0.config.access import AccessConfig
from hal0.vocab import Access

_LOCAL: Final = Principal()
_OPERATOR: Final = Principal(operator=True)


class Door:
    """The access check of one application; call it with a request and its route's class."""

    def __init__(self, config: Callable[[], AccessConfig], *, keyless_off: str | None, owners: Owners) -> None:
        """`keyless_off` is why this machine's loopback proves nothing, None where it does."""
        self._config = config
        self._keyless_off = keyless_off
        self._owners = owners
        self._own_uid = os.geteuid()
        self._unix: WeakKeyDictionary[asyncio.Transport, bool] = WeakKeyDictionary()

    async def __call__(self, request: web.Request, access: Access) -> Principal:
        """Raises auth.required, or request.invalid for what has no one meaning."""
        transport, headers = request.transport, request.headers
        if transport is not None and self._is_unix(transport):
            caller = Caller(operator=True, hosts=tuple(headers.getall("Host", ())))
        else:
            peer = request.remote
            caller = Caller(
                peer=peer,
                hosts=tuple(headers.getall("Host", ())),
                origin=headers.get("Origin"),
                forwarded=forwarding_header(headers),
                peer_uid=await self._peer_uid(transport) if access is Access.INFERENCE and is_loopback(peer) else None,
                own_uid=self._own_uid,
                keyless_off=self._off(),
            )
        refusal = decide(access, caller)
        if refusal is not None:
            raise refusal
        return _OPERATOR if caller.operator else _LOCAL

    def _off(self) -> str | None:
        config = self._config()
        if not config.trust_loopback:
            return "access.trust_loopback is false"
        if config.hosts:
            return "access.hosts is set, so hal0 stands behind a proxy"
        return self._keyless_off

    async def _peer_uid(self, transport: asyncio.Transport | None) -> int | None:
        if transport is None:  # the client has left already
            return None
        if (known := self._owners.known(transport)) is not None:
            return known
        peer, own = (transport.get_extra_info(end)[:2] for end in ("peername", "sockname"))
        return await self._owners.of_peer(transport, peer, own)

    def _is_unix(self, transport: asyncio.Transport) -> bool:
        """By the listening side: only a Unix socket is bound to a path."""
        known = self._unix.get(transport)
        if known is None:
            sock = transport.get_extra_info("socket")
            known = self._unix[transport] = sock is not None and sock.family == socket.AF_UNIX
        return known
