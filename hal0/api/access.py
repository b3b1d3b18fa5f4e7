"""Gathers what is known of a caller and lets the access rule decide, before a byte of the body is read."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Final

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

    async def __call__(self, request: web.Request, access: Access) -> Principal:
        """Raises auth.required, or request.invalid for what has no one meaning."""
        caller = self._caller(request)
        if access is Access.INFERENCE and not caller.operator and is_loopback(caller.peer):
            caller = replace(caller, peer_uid=await self._peer_uid(request))
        refusal = decide(access, caller)
        if refusal is not None:
            raise refusal
        return _OPERATOR if caller.operator else _LOCAL

    def _caller(self, request: web.Request) -> Caller:
        headers = request.headers
        hosts = tuple(headers.getall("Host", ()))
        if _is_unix(request):
            return Caller(operator=True, hosts=hosts)
        return Caller(
            peer=request.remote,
            hosts=hosts,
            origin=headers.get("Origin"),
            forwarded=forwarding_header(headers),
            own_uid=self._own_uid,
            keyless_off=self._off(),
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
