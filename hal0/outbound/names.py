"""Resolves host names, each in a thread of its own: one that hangs for half a minute holds up no other.

An event loop has two threads for that, or shares a few with everything else that blocks, and waits for them when it
ends. These are not waited for.
"""

import asyncio
import socket
import threading
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Names(AbstractResolver):
    """What the machine's own resolver says. `resolve` raises OSError."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Any]] = loop.create_future()

        def tell(infos: list[Any] | None, error: OSError | None) -> None:
            if found.done():  # nobody waits any more
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(infos or [])

        def work() -> None:
            infos, error = None, None
            try:
                infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            except (OSError, UnicodeError) as failure:  # a name that cannot be one
                error = failure if isinstance(failure, OSError) else OSError(None, str(failure))
            try:
                loop.call_soon_threadsafe(tell, infos, error)
            except RuntimeError:
                return  # the loop has ended, and with it whoever asked

        try:
            threading.Thread(target=work, name="resolve", daemon=True).start()
        except RuntimeError:  # to a caller it is one more reason why a name is not known
            raise OSError(None, "this machine has no thread left to resolve its name") from None
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=_NUMERIC)
            for kind, _, protocol, _, address in await found
        ]

    async def close(self) -> None:
        """There is nothing to close."""
