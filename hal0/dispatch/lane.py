"""What requests with the same head have in common, found out once: a client's next request rarely has another head."""

from dataclasses import dataclass, field
from typing import Final

from hal0.access.principal import Principal
from hal0.dispatch.asked import Asked
from hal0.dispatch.headers import lines, request_start
from hal0.dispatch.peek import Peek
from hal0.dispatch.resolve import Decision
from hal0.dispatch.sending import inference
from hal0.dispatch.surface import PathRow, id_headers
from hal0.dispatch.trace import Trace
from hal0.observe.decisions import DecisionRecord
from hal0.providers.base import AnswerMode, Endpoint, Forward, Serve
from hal0.slots.handle import SlotSnapshot
from hal0.vocab import OnClientGone

# Stands for the id of a request; no header holds such a character.
_THE_ID: Final = "\0"


@dataclass(slots=True)
class Lane:
    """One head on one connection, let in as `principal`."""

    asked: Asked
    row: PathRow
    principal: Principal
    _last: tuple[SlotSnapshot, Decision, str | None] | None = field(default=None, init=False)
    _forward: Forward | None = field(default=None, init=False)
    _to: tuple[str, Endpoint] | None = field(default=None, init=False)
    _start: bytes = field(default=b"", init=False)
    _said_of: Decision | None = field(default=None, init=False)
    _said: bytes = field(default=b"", init=False)
    _like: tuple[Decision, str | None, DecisionRecord] | None = field(default=None, init=False)

    def forward(self, slot: SlotSnapshot, decision: Decision, peek: Peek) -> Forward | None:
        """How the slot's provider wants the request, if bytes pass as they are; it is asked once for the same."""
        last = self._last
        if last is None or last[0] is not slot or last[1] is not decision or last[2] != peek.encoding_format:
            self._last = slot, decision, peek.encoding_format
            self._forward = _plainly(slot, slot.provider.infer(inference(self.row, peek, decision, slot)))
        return self._forward

    def start_for(self, path: str, endpoint: Endpoint) -> bytes:
        """The head of the request to a slot, but for its last line; see `headers.request_end`."""
        if self._to is None or self._to[1] != endpoint or self._to[0] != path:
            self._to = (path, endpoint)
            self._start = request_start("POST", path.encode(), self.asked.raw_headers, endpoint, identity=False)
        return self._start

    def record(self, decision: Decision, asked_model: str | None) -> DecisionRecord:
        """Of a request that did not have to wait: all but its own id, times, status and sizes."""
        like = self._like
        if like is None or like[0] is not decision or like[1] != asked_model:
            trace = Trace("", 0.0, 0.0, self.asked.method, self.asked.path, self.principal.key_id)
            trace.asked_model, trace.outcome = asked_model, decision
            trace.read_at = trace.admitted_at = trace.connected_at = 0.0
            like = self._like = decision, asked_model, trace.record(0.0)
        return like[2].again()

    def says(self, decision: Decision, request_id: str) -> bytes:
        """hal0's own headers in an answer: the request's id, who answers, and by which rule."""
        if self._said_of is not decision:
            self._said_of = decision
            who = {"X-Hal0-Slot": decision.slot, "X-Hal0-Rule": decision.rule.value}
            self._said = lines({**id_headers(self.row.dialect, _THE_ID), **who})
        return self._said.replace(_THE_ID.encode(), request_id.encode())


def _plainly(slot: SlotSnapshot, inferred: Forward | Serve) -> Forward | None:
    """Where to, if bytes pass as they are both ways and an answer whose client left may be broken off."""
    if not isinstance(inferred, Forward) or slot.on_client_gone is OnClientGone.DRAIN or slot.request_defaults:
        return None
    changed = inferred.edits or inferred.revise or inferred.substitute is not None
    return None if changed or inferred.answer is not AnswerMode.RAW else inferred
