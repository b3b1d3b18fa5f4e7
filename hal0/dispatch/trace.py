"""What is noted about one request on its way; becomes its decision record at the end."""

from collections.abc import Callable
from typing import Final

from hal0.dispatch.resolve import Decision, Outcome, Refusal
from hal0.dispatch.usage import Meter, Usage
from hal0.errors import Hal0Error
from hal0.observe.decisions import DecisionRecord

CLIENT_GONE: Final = 499
_NO_USAGE: Final = Usage()


class Trace:
    """Mutable, owned by one request. `*_at` are the event loop's seconds, `at` the clock's.

    What most requests never change stands in the class: one is made for every request.
    """

    asked_model: str | None = None
    stream: bool = False
    outcome: Outcome | None = None
    upstream: str | None = None  # the one that was asked last
    status: int = 0
    code: str | None = None
    queue_position: int | None = None  # in its slot's line when it first had to wait, 1 = next
    turn_s: float = 0.0  # of the wait, how long other slots had the memory
    lists_s: float = 0.0  # of the wait, how long for lists of upstreams
    read_at: float | None = None  # the body was here
    admitted_at: float | None = None
    connected_at: float | None = None
    sent_at: float | None = None
    head_at: float | None = None
    bytes_out: int = 0
    meter: Meter | None = None  # of an answer that passes in pieces
    usage: Usage = _NO_USAGE

    def __init__(
        self, request_id: str, at: float, started_at: float, method: str, path: str, key_id: str | None = None
    ) -> None:
        self.request_id = request_id
        self.at = at
        self.started_at = started_at
        self.method = method
        self.path = path
        self.key_id = key_id

    def measured(self, clock: Callable[[], float]) -> Meter:
        """What has to see every piece of the answer; `clock` is the event loop's."""
        self.meter = self.meter or Meter(clock)
        return self.meter

    def failed(self, error: Hal0Error) -> None:
        self.status = error.status
        self.code = error.code

    def client_gone(self) -> None:
        self.status, self.code = CLIENT_GONE, "request.client_gone"

    def overhead_ms(self, now: float) -> float | None:
        """hal0's own share until the head: all but reading the body, waiting at the gate, and for engine or network."""
        if self.read_at is None or self.admitted_at is None or self.sent_at is None or self.head_at is None:
            return None
        held = self.admitted_at - self.read_at if self.queue_position is not None else self.lists_s
        if self.upstream is not None:
            # The way there, and what other upstreams were asked in vain.
            held = self.lists_s + self.sent_at - self.admitted_at
        return (self.sent_at - self.read_at - held + now - self.head_at) * 1000

    def _first_at(self) -> float | None:
        """The head of an answer is no word of it: some servers send the one long before the other."""
        first_at = self.meter.first_at if self.stream and self.meter is not None else None
        return self.head_at if first_at is None else first_at

    def record(self, now: float) -> DecisionRecord:
        decision = None if isinstance(self.outcome, Refusal) else self.outcome
        usage = self.usage if self.meter is None or self.status != 200 else self.meter.usage()
        return DecisionRecord(
            request_id=self.request_id,
            at=self.at,
            key_id=self.key_id,
            method=self.method,
            path=self.path,
            asked_model=self.asked_model,
            target=decision.slot if isinstance(decision, Decision) else self.upstream,
            model=decision.model if decision else None,
            rule=decision.rule if decision else None,
            tried=self.outcome.tried if self.outcome else (),
            candidates=self.outcome.candidates if self.outcome else (),
            stream=self.stream,
            status=self.status,
            code=self.code,
            queue_position=self.queue_position,
            held_ms=_ms(self.read_at, self.admitted_at) or 0.0,
            turn_ms=self.turn_s * 1000,
            connect_ms=_ms(self.admitted_at, self.connected_at),
            first_byte_ms=_ms(self.sent_at, self._first_at()),
            total_ms=(now - self.started_at) * 1000,
            overhead_ms=self.overhead_ms(self.head_at) if self.head_at is not None else None,
            bytes_out=self.bytes_out,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            tokens_per_second=usage.tokens_per_second,
        )


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1000
