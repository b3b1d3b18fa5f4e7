"""Connections to slots that wait a moment for their next request."""

import asyncio
from typing import Final

from hal0.dispatch.upstream_http import Connection
from hal0.errors import Hal0Error
from hal0.lib.outbox import Outbox

Address = tuple[str, int]

# llama-server closes idle connections at 5 s; a request must never race with that.
IDLE_LIMIT_S: Final = 3.0


class Pool:
    """Connections to slots; idle ones are reused for at most IDLE_LIMIT_S."""

    def __init__(self, *, connect_s: float) -> None:
        self.connect_s = connect_s  # from the next connection on
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop)
        self._idle: dict[Address, list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self, address: Address) -> Connection | None:
        """The freshest idle connection, if any."""
        idle = self._idle.get(address)
        oldest = self._loop.time() - IDLE_LIMIT_S
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                connection.reused = True
                return connection
            connection.close()
        return None

    async def connect(self, address: Address) -> Connection:
        """A new connection. Raises upstream.unreachable."""
        loop, outbox = self._loop, self._outbox
        host, port = address
        try:
            async with asyncio.timeout(self.connect_s):
                _, connection = await loop.create_connection(lambda: Connection(loop, outbox), host, port)
        except OSError as error:
            why = "it did not answer in time" if isinstance(error, TimeoutError) else error.strerror or "refused"
            raise Hal0Error("upstream.unreachable", f"cannot connect to the engine: {why}") from error
        return connection

    def give_back(self, address: Address, connection: Connection) -> None:
        """After an exchange; kept only when it ended cleanly."""
        if not connection.finish():
            return
        self._idle.setdefault(address, []).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_LIMIT_S, self._sweep)

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    def _sweep(self) -> None:
        """Close what nobody took; runs only while there is something idle."""
        oldest = self._loop.time() - IDLE_LIMIT_S
        for address, idle in list(self._idle.items()):
            young = [connection for connection in idle if connection.usable and connection.idle_since >= oldest]
            for connection in idle:
                if connection not in young:
                    connection.close()
            if young:
                self._idle[address] = young
            else:
                del self._idle[address]
        self._sweeper = self._loop.call_later(IDLE_LIMIT_S / 4, self._sweep) if self._idle else None
