"""Sends requests to upstreams: to the one that chance picks, to another while no answer has begun.

Bytes pass as they come, both ways. aiohttp's client carries them: upstreams need TLS and name resolution, and a
network takes longer than any client.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiohttp import ClientResponse, web

from hal0.dispatch.asked import Asked
from hal0.dispatch.body import Body
from hal0.dispatch.border import outbound, via
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.edits import cuts_for
from hal0.dispatch.headers import is_encoded, retry_after_s
from hal0.dispatch.resolve import Passage, Tried
from hal0.dispatch.rewording import parsed, told
from hal0.dispatch.rewrite import Splice, apply, growth
from hal0.dispatch.trace import Trace
from hal0.dispatch.unpacking import reading, unpacked
from hal0.errors import Hal0Error
from hal0.upstreams.choice import Chance, ordered
from hal0.upstreams.link import unreachable
from hal0.upstreams.snapshot import Hop
from hal0.upstreams.upstream import Attempt, Upstream
from hal0.upstreams.upstreams import Upstreams

# "Not now, not me": with such an answer another upstream is asked; where there is none, it is the client's. A key that
# is not taken or has no credit left, and a model that is listed but not there, are no faults of the request's.
_NOT_NOW: Final = frozenset({401, 402, 404, 429, 502, 503, 529})
# Failures that say that the request was not taken. Silence does not say so: the upstream may be working on it.
_NOT_TAKEN: Final = frozenset({"upstream.unreachable", "upstream.broken", "upstream.auth"})
# Failures of the upstream's. Where hal0 itself sent nothing, or could not go on, they say nothing about it.
_THEIRS: Final = frozenset({"upstream.unreachable", "upstream.broken", "upstream.timeout"})
_ONE_PIECE_BYTES: Final = 256 << 10  # aiohttp warns of larger ones that come as bytes
_MOST_ERROR_BYTES: Final = 64 << 10  # of one that hal0 has to read


class Crossing(NamedTuple):
    """A request on its way to an upstream. `path` is below `/v1`; `query` the client's, with its question mark.

    `defaults` are members of a JSON body, for one that leaves them out.
    """

    asked: Asked
    path: str
    query: bytes
    body: Body
    trace: Trace
    passage: Passage
    down: Downstream
    defaults: Mapping[str, Any] = MappingProxyType({})


class Abroad:
    """`clock` is the event loop's; `chance` decides among upstreams of the same priority."""

    def __init__(
        self,
        upstreams: Upstreams,
        clock: Callable[[], float],
        *,
        chance: Chance = random.random,
    ) -> None:
        self._upstreams = upstreams
        self._clock = clock
        self._chance = chance

    async def send(self, it: Crossing) -> web.StreamResponse:
        """Until the answer is with the client. Raises Hal0Error only while no answer has begun."""
        it.trace.admitted_at = self._clock()
        ways = self._ways(it.passage)
        if not ways:
            raise self._nobody(it.passage)
        *others, (hop, upstream) = ways
        for other, first in others:
            try:
                return await self._cross(it, other, first, last=False)
            except _Elsewhere as why:
                _note(it.trace, other, str(why))
        return await self._cross(it, hop, upstream, last=True)

    def _ways(self, passage: Passage) -> list[tuple[Hop, Upstream]]:
        """The upstreams that may be asked now, in order."""
        known = [(hop, self._upstreams.get(hop.upstream)) for hop in ordered(passage.hops, self._chance)]
        return [(hop, it) for hop, it in known if it is not None and it.config.enabled and it.passes()]

    def _nobody(self, passage: Passage) -> Hal0Error:
        known = [it for hop in passage.hops if (it := self._upstreams.get(hop.upstream)) and it.config.enabled]
        if not known:
            return unreachable(passage.hops[0].upstream, "it is switched off, or no longer there")
        soonest = min(known, key=Upstream.wait_s)
        why = f"{soonest.circuit.failures} requests in a row failed, so it is left alone for a while"
        return unreachable(soonest.name, why, retry_after_s=soonest.wait_s())

    # Towards the upstream.

    async def _cross(self, it: Crossing, hop: Hop, upstream: Upstream, *, last: bool) -> web.StreamResponse:
        it.trace.upstream = hop.upstream
        with upstream.attempt() as attempt:
            response = await self._ask(it, hop, upstream, attempt, last=last)
            try:
                return await self._answer(it, upstream, response, attempt)
            except Hal0Error:  # amid what hal0 reads instead of passing it on
                attempt.failed()
                raise
            finally:
                response.close()  # at once, should it still flow; one that has ended has given its connection back

    async def _ask(self, it: Crossing, hop: Hop, upstream: Upstream, attempt: Attempt, *, last: bool) -> ClientResponse:
        edits = {"model": hop.model} if hop.model != it.trace.asked_model else {}
        cuts = await cuts_for(it.body, edits, it.defaults) if edits or it.defaults else ()
        try:
            response = await upstream.link.send(
                it.path + it.query.decode("ascii"),  # aiohttp's parser has refused anything else
                outbound(it.asked.raw_headers, identity=it.down.may_speak),
                lambda: _content(it.body, cuts),
                it.body.size + growth(cuts),
                via=via(it.asked.raw_headers),
                connected=partial(self._connected, it.trace),
            )
        except Hal0Error as error:
            if error.code in _THEIRS:
                attempt.failed()
            if last or error.code not in _NOT_TAKEN:
                raise
            raise _Elsewhere(error.message) from error
        attempt.answered(response.status)
        if response.status in _NOT_NOW and not last:
            response.close()
            raise _Elsewhere(f"it answered {response.status}")
        return response

    def _connected(self, trace: Trace) -> None:
        trace.connected_at = trace.sent_at = self._clock()

    # Towards the client.

    async def _answer(
        self, it: Crossing, upstream: Upstream, response: ClientResponse, attempt: Attempt
    ) -> web.StreamResponse:
        down, trace = it.down, it.trace
        trace.head_at = self._clock()
        down.flow()
        if down.started and not (response.status == 200 and _is_events(response)):
            return await self._too_late(it, upstream, response)
        trace.status = response.status
        if not down.started:
            down.headers["X-Hal0-Upstream"] = upstream.name
            down.headers["X-Hal0-Overhead-Ms"] = f"{trace.overhead_ms(self._clock()) or 0.0:.2f}"
            if down.rewords and response.status >= HTTPStatus.BAD_REQUEST:
                down.close()  # a sign of life would be the head of another answer
                body = await self._read(upstream, response)
                return down.answer_error(response.status, response.reason or "", response.raw_headers, body)
            down.start(response.status, response.reason or "", response.raw_headers, response.content_length)
        try:
            await self._pour(it, upstream, response)
        except Hal0Error as error:
            attempt.failed()
            trace.failed(error)
            return down.fail(error)
        return down.finish()

    async def _pour(self, it: Crossing, upstream: Upstream, response: ClientResponse) -> None:
        saw = reading(response.raw_headers, it.trace.measured(self._clock).saw)
        while data := await upstream.link.more(response):
            saw(data)
            if not it.down.write(data):
                await it.down.drained()

    async def _too_late(self, it: Crossing, upstream: Upstream, response: ClientResponse) -> web.StreamResponse:
        """The client already has a 200 and comments: what is no event stream becomes one error event."""
        read = unpacked(response.raw_headers, await self._read(upstream, response))
        error = Hal0Error(
            "upstream.broken",
            f"cannot go on: upstream {upstream.name!r} answered {told(response.status, read)}",
            details={"upstream": upstream.name, "status": response.status, "answer": parsed(read)},
            retry_after_s=retry_after_s(response.raw_headers),
        )
        it.trace.code, it.trace.status = error.code, response.status
        return it.down.fail(error)

    @staticmethod
    async def _read(upstream: Upstream, response: ClientResponse) -> bytes:
        """An error, or as much of it as anybody reads."""
        read = b""
        while len(read) < _MOST_ERROR_BYTES and (data := await upstream.link.more(response)):
            read += data
        return read


class _Elsewhere(Exception):
    """This upstream did not take the request, and there is another one; the text says why."""


def _note(trace: Trace, hop: Hop, why: str) -> None:
    """An upstream that was asked in vain is a fact of the decision."""
    passage = trace.outcome
    assert isinstance(passage, Passage)
    fact = Tried(passage.rule, hit=False, fact=f"{hop.upstream!r} did not take it: {why}")
    trace.outcome = replace(passage, tried=(*passage.tried, fact))


def _content(body: Body, cuts: tuple[Splice, ...]) -> bytes | AsyncIterator[bytes]:
    if not body.in_memory or body.size > _ONE_PIECE_BYTES:
        return body.pieces(cuts)
    return apply(body.data, cuts) if cuts else body.data


def _is_events(response: ClientResponse) -> bool:
    """Whether events follow that can go on behind comments of hal0's own."""
    is_events = response.headers.get("Content-Type", "").startswith("text/event-stream")
    return is_events and not is_encoded(response.raw_headers)
