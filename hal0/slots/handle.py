"""What the rest of hal0 may know of a slot and ask of it; the actor behind it stays hidden.

Dispatch reads snapshots (immutable, replaced whole on every change), waits for changes, asks for a load, and holds
a `Serving` for as long as a request is under way. How many are under way is no part of a snapshot: it changes with
every request, and nearly everything else stays. Nothing here starts or stops a container by itself.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hal0.errors import Hal0Error
from hal0.providers.base import Endpoint, Provider
from hal0.slots.record import Progress
from hal0.vocab import Capability, FailureClass, OnClientGone, Phase, ProviderName, SlotName, Want


@dataclass(frozen=True, slots=True)
class Serves:
    model: str
    capability: Capability


@dataclass(frozen=True, slots=True)
class SlotFailure:
    """Why the slot is in error; `settled` is False while the evidence is still being read."""

    failure_class: FailureClass
    code: str
    message: str
    at: float
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSnapshot:
    """A slot at one moment, as dispatch sees it. Times are the clock's seconds since the epoch."""

    name: SlotName
    builtin: bool
    provider: Provider
    provider_name: ProviderName
    phase: Phase
    want: Want
    model: str | None  # the model it has, or will have when the load under way is done
    model_missing: str | None  # one sentence when that model is not downloaded
    demo: bool
    serves: tuple[Serves, ...]  # what it serves now, or would serve when loaded
    aliases: tuple[str, ...]
    endpoint: Endpoint | None  # None unless a request may go there now
    max_inflight: int | None
    queue_limit: int
    priority: int
    pinned: bool
    load_on_request: bool
    hold_s: float | None  # the slot's own limit for holding a request; None: the server's
    first_byte_timeout_s: float
    on_client_gone: OnClientGone
    context_size: int | None
    failure: SlotFailure | None
    next_attempt_at: float | None  # of a transient failure
    load_started_at: float | None
    ready_at: float | None  # since when it is ready
    expected_load_s: float | None  # median of this slot's own history; None without one
    progress: Progress | None  # of the load under way
    request_defaults: Mapping[str, Any] = field(default_factory=dict)  # members that a request may leave out

    @property
    def routable(self) -> bool:
        return self.endpoint is not None


class Serving(Protocol):
    """One request under way in a slot."""

    @property
    def endpoint(self) -> Endpoint: ...

    def on_abort(self, callback: Callable[[Hal0Error], None], moved: Callable[[], int] | None = None) -> None:
        """`callback` is called at most once, when hal0 must end this request (drain deadline, slot lost).

        The callee closes the upstream side first, then tells the client with the error. `moved` gives the bytes of the
        answer that have come so far: an engine that sends some is not dead.
        """
        ...

    def end(self) -> None:
        """Count the request out, and forget the callbacks: who made them often holds this. Once."""
        ...


class SlotHandle(Protocol):
    @property
    def name(self) -> SlotName: ...

    @property
    def in_flight(self) -> int:
        """Requests counted in at this moment."""
        ...

    def snapshot(self) -> SlotSnapshot:
        """The current value; cheap, the same object until something changes."""
        ...

    async def changed(self) -> None:
        """Wait for the next change of snapshot or `in_flight`. Look first, then wait: no await in between."""
        ...

    def request_load(self) -> None:
        """Ask for a load on behalf of a request; joins the load under way, does nothing when it runs."""
        ...

    def serving(self) -> Serving:
        """Count a request in, until its `end`. Raises slot.loading when the slot is not routable at this moment."""
        ...

    def queued(self, count: int) -> None:
        """So many requests stand at its gate now; it is shown, and nothing rests on it."""
        ...

    def suspect(self, *, silent_s: float | None = None) -> None:
        """A request met a refused connection or a broken answer: look at the container now, not at the next tick.

        `silent_s`: or it has waited for so long without a byte.
        """
        ...


class Slots(Protocol):
    """All slots, as dispatch sees them."""

    @property
    def version(self) -> int:
        """Increases whenever something a routing decision rests on has changed."""
        ...

    def all(self) -> Collection[SlotHandle]: ...

    def get(self, name: str) -> SlotHandle | None: ...

    def fits_together(self, slots: frozenset[SlotName]) -> bool:
        """Could these be loaded at the same time, with everybody gone who may be asked to go?

        Cheap enough for every request: it rests on what is needed now and on memory as it was measured last, some
        seconds ago at most. Slots without a model, or without a name here, need nothing.
        """
        ...

    def barred(self, slot: SlotName) -> Hal0Error | None:
        """Why the slot is not loaded now, whoever asks: images have its GPU. None: nothing is in the way.

        Cheap, as `fits_together` is.
        """
        ...

    async def switch(self, load: SlotName, unload: Collection[SlotName]) -> None:
        """Want `unload` to leave and `load` to be loaded, as a request does; returns when that is in effect.

        Then no leaver takes requests any more, and how the load goes is in its snapshots, as for every load. Who is
        pinned or answers at that moment is not cut but stays: then the load finds its room otherwise, or fails.
        """
        ...


def busy(slots: Slots) -> list[str]:
    """Those that answer somebody now."""
    return [handle.name for handle in slots.all() if handle.in_flight]


def endpoints_of(slots: Slots) -> dict[str, Endpoint]:
    """Where the slots answer that may be asked now."""
    found = ((handle.name, handle.snapshot().endpoint) for handle in slots.all())
    return {name: endpoint for name, endpoint in found if endpoint is not None}
