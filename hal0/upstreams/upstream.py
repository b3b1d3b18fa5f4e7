"""One upstream while it is configured: its model list, its circuit, and what its last answers said."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from hal0.config.upstreams import UpstreamConfig
from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s
from hal0.lib.clock import Clock
from hal0.upstreams.circuit import Circuit
from hal0.upstreams.link import Link, broken, unreachable
from hal0.upstreams.listing import Listed, declared, parse
from hal0.upstreams.snapshot import UpstreamSnapshot

# A list comes at once or not at all; nobody is to wait for it as for an answer.
LIST_S: Final = 8.0
# Lists are renewed before they are old, so that no request finds an old one while the upstream answers.
_RENEW: Final = 0.9
# A list that did not come is asked for again. A machine that is not there, or still starts, may come at any moment,
# hours later too, and asking it costs nothing; who has answered with a no is asked as seldom as for any list.
_AWAY_S: Final = (3.0, 20.0)
_REFUSED_S: Final = (10.0, 300.0)
# It answers, and what it says is that it cannot.
FAILURES: Final = frozenset({502, 503, 504})
_REJECTED: Final = (401, 403)
_NO_LIST: Final = (404, 405, 501)


class Upstream:
    """Owned by `Upstreams`, which replaces it when its configuration changes. Times are the clock's.

    `changed` hears of what routing rests on, `seen` of what only people look at.
    """

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        link: Link,
        clock: Clock,
        *,
        catalog_s: float,
        changed: Callable[["Upstream"], None],
        seen: Callable[["Upstream"], None],
    ) -> None:
        self.name = name
        self.config = config
        self.link = link
        self.circuit = Circuit()
        self.models: tuple[Listed, ...] | None = None
        self.listed_at: float | None = None
        self.due_at = clock.now()  # when the list is asked for next
        self.status: int | None = None  # of the last answer with a list
        self.latency_ms: float | None = None
        self.problem: Hal0Error | None = None  # why the last list did not come
        self._refused = False  # the last request found its key rejected
        self.requests = 0
        self.failures = 0
        self.in_flight = 0
        self._clock = clock
        self._catalog_s = catalog_s
        self._changed = changed
        self._seen = seen
        self._away, self._refusals = _pauses()
        self._snapshot: UpstreamSnapshot | None = None

    @property
    def cold(self) -> bool:
        """Nobody knows its models, and nobody has found out in vain."""
        return self.config.enabled and self.models is None and self.problem is None

    def lists(self, model: str | None) -> bool:
        """Whether it is known to have a model that clients call so."""
        return any(listed.id == model for listed in self.models or ())

    @property
    def rejected(self) -> bool:
        """The last word on the key was no. A list that comes is no such word: some are public."""
        return self._refused or (self.problem is not None and self.status in _REJECTED)

    @property
    def up(self) -> bool:
        return self.problem is None and not self.rejected and self.circuit.until is None

    def snapshot(self) -> UpstreamSnapshot:
        """The same object until something changes."""
        if self._snapshot is None:
            self._snapshot = UpstreamSnapshot(
                name=self.name,
                kind=self.config.kind,
                priority=self.config.priority,
                weight=self.config.weight,
                # After a failure it has those that the configuration names, and is not to be waited for again.
                models=declared(self.config) if self.models is None and self.problem is not None else self.models,
                up=self.up,
                prefix=self.config.prefix or "",
                only=frozenset(self.config.models),
            )
        return self._snapshot

    async def ask(self) -> None:
        """Renew the model list. Raises nothing: what went wrong is in `problem`, and the old list stays in use.

        A model that was served a minute ago is not to be answered by another one because a list did not come.
        """
        started = asyncio.get_running_loop().time()
        before = self.models, self.up
        self.status = None
        self.due_at = self._clock.now() + self._catalog_s  # whatever happens: never in a circle
        try:
            async with asyncio.timeout(LIST_S):
                self.models = await self._list()
        except TimeoutError:
            self._no_list(unreachable(self.name, f"its model list did not come within {LIST_S:.0f} s"))
        except Hal0Error as error:
            self._no_list(error)
        else:
            self.latency_ms = (asyncio.get_running_loop().time() - started) * 1000
            self.problem = None
            self.listed_at = self._clock.now()
            self.due_at = self.listed_at + self._catalog_s * _RENEW
            self._away, self._refusals = _pauses()
        if (self.models, self.up) == before:
            self._seen(self)  # nothing that routing rests on
        else:
            self._tell()

    async def _list(self) -> tuple[Listed, ...]:
        self.status, answer = await self.link.models()
        if self.status == 200:
            # A long list takes some milliseconds, which no request on the loop is to pay for.
            return await asyncio.to_thread(parse, answer, self.config)
        if self.status in _NO_LIST and self.config.models:
            return declared(self.config)
        if self.status in _REJECTED:
            raise broken(self.name, f"it rejected the key ({self.status})")
        raise broken(self.name, f"it answered {self.status} where its model list was expected")

    def _no_list(self, error: Hal0Error) -> None:
        self.problem = error
        away = self.status is None or self.status in FAILURES
        self.due_at = self._clock.now() + next(self._away if away else self._refusals)

    # Requests.

    def passes(self) -> bool:
        """Whether a request may be sent there now."""
        return self.circuit.passes(self._clock.now())

    def wait_s(self) -> float:
        """How long until one may, in seconds."""
        return max((self.circuit.until or 0.0) - self._clock.now(), 0.0)

    def attempt(self) -> "Attempt":
        """Count a request in, for as long as the block lasts (`with`)."""
        return Attempt(self, self._clock)

    def counts(self, change: int) -> None:
        """A request begins or ends."""
        self.in_flight += change
        self.requests += change > 0

    def turned(self, circuit: Circuit) -> None:
        """What a request said about it made the circuit this."""
        before, well = self.up, not self.circuit.failures
        self.circuit = circuit
        if before != self.up:
            self._tell()
        elif well != (not circuit.failures):
            self._seen(self)

    def said(self, status: int) -> None:
        """The status that answered a request tells whether the key is taken."""
        refused = status == _REJECTED[0]
        if refused != self._refused and (refused or status < 400):
            self._refused = refused
            self._tell()

    def _tell(self) -> None:
        self._snapshot = None
        self._changed(self)


def _pauses() -> tuple[Iterator[float], Iterator[float]]:
    return backoff_s(*_AWAY_S), backoff_s(*_REFUSED_S)


class Attempt:
    """One request under way to an upstream; what it meets turns the circuit.

    The head of the answer opens the way for others, so that a long stream does not keep them waiting for its end; but
    who begins every answer and finishes none fails.
    """

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._said = False
        self._failed = False

    def __enter__(self) -> "Attempt":
        upstream = self._upstream
        upstream.counts(1)
        upstream.turned(upstream.circuit.begun(self._clock.now()))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        left = kind is not None and issubclass(kind, asyncio.CancelledError | ConnectionError)
        if not self._said:  # the client left before there was anything to learn
            self._upstream.turned(self._upstream.circuit.abandoned())
        elif not self._failed and not left:
            self._upstream.turned(self._upstream.circuit.succeeded())
        self._upstream.counts(-1)

    def answered(self, status: int) -> None:
        """The head of an answer with this status is here."""
        if status in FAILURES:
            self.failed()
        else:
            self._said = True
            self._upstream.said(status)
            self._upstream.turned(self._upstream.circuit.answered())

    def failed(self) -> None:
        """It could not be reached, was silent, broke off, or said that it cannot."""
        self._said = self._failed = True
        self._upstream.failures += 1
        self._upstream.turned(self._upstream.circuit.failed(self._clock.now()))
