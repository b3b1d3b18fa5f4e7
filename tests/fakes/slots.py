"""Slots without containers: phases are set by the test, counting and waiting are the real contract's."""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hal0.errors import Hal0Error
from hal0.lib.aio import Signal
from hal0.providers.base import Endpoint, Forward, InferRequest, Serve
from hal0.slots.handle import Serves, SlotFailure, SlotSnapshot
from hal0.vocab import Capability, ModelId, OnClientGone, Phase, ProviderName, SlotName, Want

_LOOK_S: Final = 0.002


@dataclass
class FakeProvider:
    """Forwards below /v1 as llama.cpp's does; `inferred` replaces the answer of `infer`."""

    inferred: Forward | Serve | None = None
    refuses: Exception | None = None
    asked: list[InferRequest] = field(default_factory=list)
    tags: frozenset[str] = frozenset()
    at_once: int | None = None

    def infer(self, request: InferRequest) -> Forward | Serve:
        self.asked.append(request)
        if self.refuses is not None:
            raise self.refuses
        return self.inferred or Forward(f"/v1{request.path}")


def snapshot(name: str = "primary", **changes: Any) -> SlotSnapshot:
    """An offline chat slot with a model, unless told otherwise."""
    plain = SlotSnapshot(
        name=SlotName(name),
        builtin=True,
        provider=FakeProvider(),  # type: ignore[arg-type]  # only `infer` is dispatch's business
        provider_name=ProviderName.LLAMACPP,
        phase=Phase.OFFLINE,
        want=Want.UNLOADED,
        model="fake-chat",
        model_missing=None,
        demo=False,
        serves=(Serves("fake-chat", Capability.CHAT),),
        aliases=(),
        endpoint=None,
        max_inflight=None,
        queue_limit=64,
        priority=50,
        pinned=False,
        load_on_request=True,
        hold_s=None,
        first_byte_timeout_s=600.0,
        on_client_gone=OnClientGone.CANCEL,
        context_size=4096,
        failure=None,
        next_attempt_at=None,
        load_started_at=None,
        ready_at=None,
        expected_load_s=None,
        progress=None,
    )
    return replace(plain, **changes)


READY: Mapping[str, Any] = {"phase": Phase.READY, "want": Want.LOADED}
LOADING: Mapping[str, Any] = {"phase": Phase.WARMING, "want": Want.LOADED}


class FakeServing:
    def __init__(self, endpoint: Endpoint, on_end: Callable[["FakeServing"], None]) -> None:
        self.endpoint = endpoint
        self._on_end = on_end
        self.callbacks: list[Callable[[Hal0Error], None]] = []

    def on_abort(self, callback: Callable[[Hal0Error], None], moved: Callable[[], int] | None = None) -> None:
        self.callbacks.append(callback)

    def end(self) -> None:
        self._on_end(self)
        self.callbacks.clear()


class FakeSlot:
    """One slot. `loads` counts the loads that requests caused, `suspected` the calls of `suspect`."""

    def __init__(self, value: SlotSnapshot, on_change: Callable[[], None]) -> None:
        self._value = value
        self._changed = Signal()
        self._on_change = on_change
        self.in_flight = 0
        self.loads = 0
        self.suspected = 0
        self.silent_s: float | None = None
        self.servings: list[FakeServing] = []
        self.queues: list[int] = []
        self.on_load: Callable[[FakeSlot], None] = _starts

    @property
    def name(self) -> SlotName:
        return self._value.name

    def snapshot(self) -> SlotSnapshot:
        return self._value

    async def changed(self) -> None:
        await self._changed.wait()

    def become(self, **changes: Any) -> None:
        """What the slot's actor would do: replace the snapshot whole and tell everyone."""
        self._value = replace(self._value, **changes)
        self._on_change()
        self._changed.notify()

    def count(self, change: int) -> None:
        self.in_flight += change
        self._changed.notify()

    def request_load(self) -> None:
        if self._value.phase in (Phase.OFFLINE, Phase.ERROR):
            self.loads += 1
            self.on_load(self)

    def ready(self, endpoint: Endpoint) -> None:
        self.become(**READY, endpoint=endpoint)

    def failed(self, failure: SlotFailure, next_attempt_at: float | None = None) -> None:
        self.become(phase=Phase.ERROR, endpoint=None, failure=failure, next_attempt_at=next_attempt_at)

    def abort_all(self, error: Hal0Error) -> None:
        for serving in list(self.servings):
            for callback in serving.callbacks:
                callback(error)

    def serving(self) -> FakeServing:
        if self._value.endpoint is None:
            raise Hal0Error("slot.loading", "cannot answer yet")
        serving = FakeServing(self._value.endpoint, self._ended)
        self.servings.append(serving)
        self.count(1)
        return serving

    def _ended(self, serving: FakeServing) -> None:
        self.servings.remove(serving)
        self.count(-1)

    def queued(self, count: int) -> None:
        self.queues.append(count)

    def suspect(self, *, silent_s: float | None = None) -> None:
        self.suspected += 1
        self.silent_s = silent_s

    async def quiet(self) -> None:
        """Until nothing is in flight."""
        while self.in_flight:
            await self._changed.wait()


def _starts(slot: FakeSlot) -> None:
    slot.become(phase=Phase.STARTING, want=Want.LOADED)


class FakeSlots:
    """`fits` says what may be loaded together, `switched` what was ordered; `stuck`: why nothing can be unloaded.

    `bars`: slots that are kept from being loaded.
    """

    def __init__(self, *values: SlotSnapshot) -> None:
        self.version = 0
        self.fits: Callable[[frozenset[SlotName]], bool] = lambda _slots: True
        self.switched: list[tuple[str, set[str]]] = []
        self.stuck: Hal0Error | None = None
        self.bars: dict[str, Hal0Error] = {}
        self._slots: dict[str, FakeSlot] = {}
        for value in values:
            self.add(value)

    def add(self, value: SlotSnapshot) -> FakeSlot:
        self.version += 1
        slot = self._slots[value.name] = FakeSlot(value, self._bump)
        return slot

    def _bump(self) -> None:
        self.version += 1

    def all(self) -> list[FakeSlot]:
        return list(self._slots.values())

    def get(self, name: str) -> FakeSlot | None:
        return self._slots.get(name)

    def fits_together(self, slots: frozenset[SlotName]) -> bool:
        return self.fits(slots)

    def barred(self, slot: SlotName) -> Hal0Error | None:
        return self.bars.get(slot)

    async def switch(self, load: SlotName, unload: Collection[SlotName]) -> None:
        self.switched.append((load, set(unload)))
        if self.stuck is not None:
            raise self.stuck
        for name in unload:
            self[name].become(phase=Phase.UNLOADING, want=Want.UNLOADED, endpoint=None, ready_at=None)
        await asyncio.sleep(0)
        for name in unload:
            assert self[name].in_flight == 0, "a slot was unloaded under its requests"
            self[name].become(phase=Phase.OFFLINE)
        self[load].request_load()

    def __getitem__(self, name: str) -> FakeSlot:
        return self._slots[name]


@dataclass
class FakeEntry:
    id: str
    created: int = 1
    context_length: int | None = 2048
    capabilities: frozenset[Capability] = frozenset({Capability.CHAT})
    demo: bool = False


@dataclass(frozen=True)
class FakeBinding:
    slot: str | None = None
    upstream: str | None = None
    model: str | None = None


class FakeRegistry:
    """Models on disk; folds `name:QUANT` to `name-quant`."""

    def __init__(self, *entries: FakeEntry, bindings: Mapping[str, FakeBinding] | None = None) -> None:
        self.version = 1
        self._entries = entries
        self._bindings = {ModelId(model): binding for model, binding in (bindings or {}).items()}

    def entries(self) -> tuple[FakeEntry, ...]:
        return self._entries

    def bindings(self) -> Mapping[ModelId, FakeBinding]:
        return self._bindings

    def fold(self, name: str) -> str:
        return name.lower().replace(":", "-")


async def settled(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Poll until the condition holds. Fails the test after as many looks as `within_s` has room for.

    Looks are counted, not seconds: a machine that stands still for a moment lets nobody do anything meanwhile.
    """
    for _ in range(math.ceil(within_s / _LOOK_S)):
        if condition():
            return
        await asyncio.sleep(_LOOK_S)
    assert condition(), f"not within {within_s} s"
