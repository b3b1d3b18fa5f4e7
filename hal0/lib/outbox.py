"""What is written to many connections in one turn of the event loop goes out together, at the end of the turn."""

import asyncio


class Outbox:
    """`post` instead of a transport's `write`; `flush` before anything else is done to one of the transports.

    A write wakes whoever reads, and on a busy machine that takes the processor, and what its caches hold, from the
    writer: amid the other requests of the turn, once for each of them. Written one behind the other they find the
    reader awake. The first of a turn goes at once: most of the time it is alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = False  # this turn has had its first
        self._posted: list[tuple[asyncio.Transport, bytes]] = []

    def post(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write it in this turn, behind what was posted before. The transport is open."""
        if self._begun:
            self._posted.append((transport, data))
            return
        transport.write(data)
        self._begun = True  # after the write, whose reader need not wait for it
        self._loop.call_soon(self._turn)

    def flush(self) -> None:
        """Write it now. What has closed in the meantime takes nothing, as it would have at once."""
        posted, self._posted = self._posted, []
        for transport, data in posted:
            if not transport.is_closing():
                transport.write(data)

    def _turn(self) -> None:
        self._begun = False
        self.flush()
