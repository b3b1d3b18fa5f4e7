"""Gathers what is known of a caller and lets the access rule decide, before a byte of the body is read."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from aiohttp import web

from hal0.access.guard import Caller, decide, forwarding_header, is_loopback
from hal0.access.owners import Owners
from hal0.api.middleware import Principal
from hal0.config.access import AccessConfig
from hal0.vocab import Access

_LOCAL: Final = Principal()
_OPERATOR: Final = Principal(operator=True)


class _Asked(NamedTuple):
    """All that may differ between two requests of one connection, as far as access goes."""

    access: Access
    hosts: tuple[str, ...]
    origin: str | None
    forwarded: str | None
    keyless_off: str | None


class Door:
    """The access check of one application; call it with a request and its route's class."""

    def __init__(self, config: Callable[[], AccessConfig], *, keyless_off: str | None, owners: Owners) -> None:
        """`keyless_off` is why this machine's loopback proves nothing, None where it does."""
        self._config = config
        self._keyless_off = keyless_off
        self._owners = owners
        self._own_uid = os.geteuid()
        # What was let through last on a connection: asked again, the answer is the same, and costs far less.
        self._passed: WeakKeyDictionary[asyncio.Transport, tuple[_Asked, Principal]] = WeakKeyDictionary()

    async def __call__(self, request: web.Request, access: Access) -> Principal:
        """Raises auth.required, or request.invalid for what has no one meaning."""
        transport, headers = request.transport, request.headers
        hosts = tuple(headers.getall("Host", ()))
        asked = _Asked(access, hosts, headers.get("Origin"), forwarding_header(headers), self._off())
        if transport is not None:
            passed = self._passed.get(transport)
            if passed is not None and passed[0] == asked:
                return passed[1]
        caller = await self._caller(request, asked)
        refusal = decide(access, caller)
        if refusal is not None:
            raise refusal
        principal = _OPERATOR if caller.operator else _LOCAL
        if transport is not None:
            self._passed[transport] = (asked, principal)
        return principal

    async def _caller(self, request: web.Request, asked: "_Asked") -> Caller:
        if _is_unix(request):
            return Caller(operator=True, hosts=asked.hosts)
        peer = request.remote
        return Caller(
            peer=peer,
            hosts=asked.hosts,
            origin=asked.origin,
            forwarded=asked.forwarded,
            peer_uid=await self._peer_uid(request) if asked.access is Access.INFERENCE and is_loopback(peer) else None,
            own_uid=self._own_uid,
            keyless_off=asked.keyless_off,
        )

    def _off(self) -> str | None:
        config = self._config()
        if not config.trust_loopback:
            return "access.trust_loopback is false"
        if config.hosts:
            return "access.hosts is set, so hal0 stands behind a proxy"
        return self._keyless_off

    async def _peer_uid(self, request: web.Request) -> int | None:
        transport = request.transport
        if transport is None:  # the client has left already
            return None
        peer, own = (transport.get_extra_info(end)[:2] for end in ("peername", "sockname"))
        return await self._owners.of_peer(transport, peer, own)


def _is_unix(request: web.Request) -> bool:
    """By the listening side: only a Unix socket is bound to a path."""
    sock = request.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX
