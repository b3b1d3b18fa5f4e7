"""The short way of an ordinary request: sent on in the very turn in which it comes, answered in the one of its answer.

Nobody has to wake up for it, which is most of what a small request costs. It is taken only where all there is to wait
for is the slot's answer, and the answer is one small piece; whatever turns out otherwise (a dead connection, a stream,
an error, an end that hal0 wants) goes on as a task on the ordinary way, from where it stands.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from hal0.dispatch.answers import Head
from hal0.dispatch.body import Body
from hal0.dispatch.cutting import Cuttable
from hal0.dispatch.downstream import Downstream, date
from hal0.dispatch.gate import Admitted
from hal0.dispatch.headers import answer_head, request_end
from hal0.dispatch.lane import Lane
from hal0.dispatch.noted import Noted, honestly
from hal0.dispatch.peek import Peek
from hal0.dispatch.pool import Pool
from hal0.dispatch.resolve import Decision
from hal0.dispatch.sending import Sender, Sending
from hal0.dispatch.trace import Trace
from hal0.dispatch.upstream_http import Connection
from hal0.dispatch.usage import usage_in
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.observe.decisions import DecisionRecord, Decisions
from hal0.slots.handle import SlotHandle

# Beyond, an answer is passed on in pieces rather than waited for.
_SMALL_BYTES: Final = 32 * 1024
# From here on an answer leads elsewhere, or is an error that somebody may have to say otherwise.
_NOT_PLAIN: Final = 300


class Host(Protocol):
    """Whoever holds the client's connection."""

    def send(self, answer: bytes) -> None:
        """A whole answer, behind those before it."""
        ...

    def done(self) -> None:
        """The answer was sent, and the connection goes on."""
        ...

    def go_on(self, work: Coroutine[Any, Any, web.StreamResponse]) -> None:
        """Run the rest as a task; its errors are the client's."""
        ...


class House(NamedTuple):
    """What all requests share."""

    pool: Pool
    sender: Sender
    cuttable: Cuttable
    decisions: Decisions
    clock: Clock
    time: Callable[[], float]
    between_bytes_s: float


class Request(NamedTuple):
    """A whole request that came `at` (the clock's), and who answers it."""

    request_id: str
    at: float
    peek: Peek
    decision: Decision
    handle: SlotHandle


class Express:
    """One request that was admitted: `begin`, `note`, then nothing more but `leave`, should its client leave."""

    __slots__ = (
        "_admitted",
        "_began",
        "_connection",
        "_data",
        "_ended_by",
        "_host",
        "_house",
        "_it",
        "_lane",
        "_sent_at",
        "_transport",
    )
    _it: Request

    def __init__(self, house: House, lane: Lane, data: bytes, admitted: Admitted, host: Host, began: float) -> None:
        self._house = house
        self._lane = lane
        self._data = data
        self._admitted = admitted
        self._host = host
        self._began = self._sent_at = began
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._ended_by: Hal0Error | None = None

    def begin(self, path: str) -> None:
        """Send it to the slot, on the engine's own `path`."""
        house, lane, (serving, snapshot) = self._house, self._lane, self._admitted
        endpoint = serving.endpoint
        connection = self._connection = house.pool.take((endpoint.host, endpoint.port))
        if connection is None:
            self._host.go_on(self._ordinarily())
            return
        head = lane.start_for(path, endpoint) + request_end(len(self._data))
        connection.send_whole(head + self._data, snapshot.first_byte_timeout_s)
        self._sent_at = house.time()

    def note(self, it: Request) -> None:
        """Remember what it is; this turn's, and the slot works already."""
        self._it = it
        self._admitted.serving.on_abort(self.abort, self.moved)
        if self._connection is None:
            return
        self._connection.on_news = self._news
        self._transport = self._lane.asked.transport
        if self._transport is not None:
            self._house.cuttable.without_task[self._transport] = self

    def leave(self) -> None:
        """The client left: the slot is told by the end of its connection."""
        assert self._connection is not None
        self._connection.on_news = None
        trace = self._trace()
        trace.client_gone()
        self._end(trace.record(self._house.time()))

    def abort(self, error: Hal0Error) -> None:
        """hal0 ends it; the client is told."""
        self._ended_by = error
        if self._connection is not None:
            self._connection.abort(error)

    def moved(self) -> int:
        """Whether an answer has begun; of a small one that says enough."""
        return int(self._connection is not None and self._connection.begun is not None)

    def _news(self) -> None:
        """Something came from the slot, or nothing will."""
        connection = self._connection
        assert connection is not None
        head = connection.begun
        if head is None and not connection.failed:
            return
        if head is not None and connection.complete and not head.is_events and head.status < _NOT_PLAIN:
            self._answer(connection, head)
        elif connection.complete or connection.failed or not self._expects_little(connection):
            connection.on_news = None
            self._go_on()

    def _expects_little(self, connection: Connection) -> bool:
        """Whether a small answer is on its way, of which nobody has to see the parts."""
        return connection.expects(_SMALL_BYTES, self._house.between_bytes_s)

    def _answer(self, connection: Connection, head: Head) -> None:
        connection.on_news = None
        it, lane, house, began, sent_at = self._it, self._lane, self._house, self._began, self._sent_at
        transport = lane.asked.transport
        if transport is None or transport.is_closing():
            self.leave()
            return
        body, head_at = connection.arrived(), house.time()
        overhead_ms = (sent_at - began) * 1000
        own = b"%bX-Hal0-Overhead-Ms: %.2f\r\nDate: %b\r\n" % (
            lane.says(it.decision, it.request_id),
            overhead_ms,
            date(int(house.clock.now())).encode(),
        )
        self._host.send(answer_head(head.status, head.reason, head.headers, own, len(body)) + body)
        record = lane.record(it.decision, it.peek.model)
        record.request_id, record.at, record.status, record.bytes_out = it.request_id, it.at, head.status, len(body)
        record.first_byte_ms, record.overhead_ms = (head_at - sent_at) * 1000, overhead_ms
        record.total_ms = (house.time() - began) * 1000
        if head.status == 200:
            record.prompt_tokens, record.completion_tokens, record.tokens_per_second = usage_in(body)
        self._end(record)
        self._host.done()

    def _end(self, record: DecisionRecord) -> None:
        self._forget()
        self._release()
        self._house.decisions.add(record)

    def _trace(self) -> Trace:
        """What was noted so far, for an end that is not the usual one."""
        it, asked = self._it, self._lane.asked
        trace = Trace(it.request_id, it.at, self._began, asked.method, asked.path, self._lane.principal.key_id)
        trace.asked_model, trace.outcome = it.peek.model, it.decision
        trace.read_at = trace.admitted_at = trace.connected_at = self._began
        trace.sent_at = None if self._connection is None else self._sent_at
        return trace

    def _release(self) -> None:
        """Count it out; the connection goes back to the pool, or is closed when its answer has not ended."""
        serving = self._admitted.serving
        if self._connection is not None:
            self._house.pool.give_back((serving.endpoint.host, serving.endpoint.port), self._connection)
        serving.end()

    def _forget(self) -> None:
        if self._transport is not None:
            self._house.cuttable.without_task.pop(self._transport, None)

    def _go_on(self) -> None:
        self._forget()
        self._host.go_on(self._ordinarily())

    async def _ordinarily(self) -> web.StreamResponse:
        house, it, lane = self._house, self._it, self._lane
        trace = self._trace()
        with Noted(trace, house.decisions, house.time):
            if self._ended_by is not None:
                self._release()
                raise self._ended_by
            down = Downstream(lane.asked, lane.row.dialect, trace.request_id, house.clock, keepalive_s=None)
            down.say(it.decision)
            sending = Sending(lane.asked, lane.row, Body(self._data), it.peek, trace, it.decision, it.handle, down)
            sent = house.sender.send(sending, self._admitted, self._connection)
            return await honestly(down, trace, house.cuttable.run(lane.asked.transport, sent))
