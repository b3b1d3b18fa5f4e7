"""GPUs on which images and language models do not always fit together: each one's arbiter, remembered and obeyed."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError

from hal0.errors import Hal0Error
from hal0.hardware.snapshot import Machine
from hal0.lib import jsonio
from hal0.lib.aio import ToTheEnd
from hal0.lib.clock import Clock
from hal0.slots.arbiter import REST, Arbiter, Mode, step
from hal0.slots.budget import Evict, Fits, Refuse, Wait, admit, would_fit
from hal0.slots.gpu_news import Tenancy, leavers, loaded, news, tenancies
from hal0.slots.gpu_words import Action, Deny, Event, Hold, ImagesWanted, LlmWanted, Load, Save, Tick, Unload
from hal0.slots.ledger import Known, Ledger
from hal0.slots.need import Need
from hal0.slots.shown import Shown
from hal0.slots.store import SlotStore
from hal0.vocab import SlotName
from hal0.wire.system import GpuView

log = logging.getLogger(__name__)

SCHEMA: Final = 1
_ADAPTER: Final = TypeAdapter(Arbiter)


class Tenants(Protocol):
    """The slots, as the supervisor has them."""

    def shown(self) -> Mapping[SlotName, Shown]: ...

    def idle_restore_s(self) -> float:
        """After how long without images the language models come back; 0: never by itself."""
        ...

    async def send_away(self, slots: Iterable[SlotName]) -> None:
        """Have these drained and unloaded for images."""
        ...

    async def call_back(self, slots: Iterable[SlotName]) -> None:
        """Have those of them loaded again that were sent away."""
        ...

    def room_made(self, *, anew: bool) -> None: ...


class Gpus:
    """`house` is set before anybody asks. One step at a time, and each to its end, whoever leaves meanwhile."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._states: dict[SlotName, Arbiter] = {}
        self._tenancies: Mapping[SlotName, Tenancy] = {}
        self._one_by_one = asyncio.Lock()
        self._to_the_end = ToTheEnd()
        self.house: Tenants

    def recall(self, images: SlotName, data: bytes | None) -> None:
        """What an earlier hal0 kept. Raises state.newer. A restart begins a new window without images."""
        if data is not None:
            self._states[images] = replace(_read(images, data), last_image=self._clock.now())

    async def aclose(self) -> None:
        await self._to_the_end.aclose()

    # -- what others ask ----------------------------------------------------------------------------------------------

    def apart(self, slots: frozenset[SlotName]) -> Iterable[frozenset[SlotName]]:
        """The parts of `slots` within which memory alone decides: images and models of one GPU are in no part both."""
        parts = [slots]
        for images, tenancy in self._tenancies.items():
            if images in slots and tenancy.llm & slots:
                parts = [part - gone for part in parts for gone in ({images}, tenancy.llm)]
        return parts

    def barred(self, slot: SlotName, known: Callable[[], Known]) -> Hal0Error | None:
        """gpu.image_mode when the slot's GPU makes images and the slot is not loaded beside them."""
        now = self._clock.now()
        for images, tenancy in self._tenancies.items():
            state = self._states.get(images, REST)
            if slot not in tenancy.llm or state.mode is Mode.LLM or self._is_loaded(slot):
                continue
            fits = (need := known().need(slot)) is None or _fits(slot, need, known().ledger, now)
            if (denial := _denial(step(state, LlmWanted(slot, fits), tenancy.group, now)[1])) is not None:
                return denial
        return None

    def _is_loaded(self, slot: SlotName) -> bool:
        it = self.house.shown().get(slot)
        return it is not None and loaded(it.life)

    def views(self) -> list[GpuView]:
        found = []
        for images, tenancy in sorted(self._tenancies.items()):
            state, group = self._states.get(images, REST), tenancy.group
            waits = state.mode is Mode.IMAGES and not group.stays
            view = GpuView(
                images=images,
                mode=state.mode.value,
                comes_back=list(state.saved),
                pinned=group.pinned,
                until=state.last_image + group.idle_restore_s if waits else None,
            )
            found.append(view)
        return found

    async def ask(self, slot: SlotName, need: Need, ledger: Ledger) -> str | None:
        """What a load of the slot has to wait for; None: the GPU is its own to be admitted to.

        Raises gpu.image_mode, or state.write_failed when the set that is to come back cannot be remembered.
        """
        for images, tenancy in list(self._tenancies.items()):
            if slot == images or slot in tenancy.llm:
                actions = await self._to_the_end.run(self._asked(images, slot, need, ledger))
                if (denial := _denial(actions)) is not None:
                    raise denial
                if any(isinstance(action, Hold) for action in actions):
                    return _waiting(self._states[images], images)
        return None

    async def _asked(self, images: SlotName, slot: SlotName, need: Need, ledger: Ledger) -> tuple[Action, ...]:
        async with self._one_by_one:
            tenancy, now = self._tenancies[images], self._clock.now()
            if slot != images:
                return await self._take(images, LlmWanted(slot, _fits(slot, need, ledger, now)))
            llm = leavers(tenancy, self.house.shown())
            verdict = admit(slot, need, ledger, now)
            in_the_way = isinstance(verdict, Refuse) or (isinstance(verdict, Evict) and set(verdict.victims) & set(llm))
            helps = in_the_way and would_fit(slot, need, ledger, without=llm)
            return await self._take(images, ImagesWanted(llm if helps else (), fits=not in_the_way))

    # -- what is seen -------------------------------------------------------------------------------------------------

    async def look(self, machine: Machine) -> None:
        """Learn what has become of the slots that are waited for, and order again what is not under way."""
        slots = self.house.shown()
        switched = (name for name, state in self._states.items() if state.mode is not Mode.LLM)
        self._tenancies = tenancies(slots, machine, self.house.idle_restore_s(), switched)
        for images in self._tenancies:
            if self._states.get(images, REST).mode is not Mode.LLM:
                await self._to_the_end.run(self._look(images, slots))

    async def _look(self, images: SlotName, slots: Mapping[SlotName, Shown]) -> None:
        async with self._one_by_one:
            tenancy, now = self._tenancies[images], self._clock.now()
            if tenancy.over:
                slots = {name: it for name, it in slots.items() if name != images}
            it = slots.get(images)
            used_at = 0.0 if it is None else now if it.in_flight else it.book.last_used or 0.0
            try:
                for report in news(self._states[images], tenancy.group, slots):
                    await self._take(images, report)
                await self._take(images, Tick(used_at))
            except Hal0Error as err:
                log.warning("the GPU of %s stays as it is for now: %s", images, err.message)

    async def _take(self, images: SlotName, event: Event) -> tuple[Action, ...]:
        """One step. What has to be remembered is on disk before anything is done about it."""
        before = self._states.get(images, REST)
        state, actions = step(before, event, self._tenancies[images].group, self._clock.now())
        if any(isinstance(action, Save) for action in actions):
            await self._store.write_gpu(images, _dump(state))
        self._states[images] = state
        if state.mode is not before.mode:
            log.info("the GPU of %s: %s -> %s (%s)", images, before.mode, state.mode, ", ".join(state.saved) or "-")
        for action in actions:
            match action:
                case Unload(slots):
                    await self.house.send_away(slots)
                case Load(slots):
                    await self.house.call_back(slots)
                case _:
                    pass
        if state.mode is not before.mode:
            self.house.room_made(anew=False)
        return actions


def _fits(slot: SlotName, need: Need, ledger: Ledger, now: float) -> bool:
    return isinstance(admit(slot, need, ledger, now), Fits | Wait)


def _denial(actions: Iterable[Action]) -> Hal0Error | None:
    return next((action.error for action in actions if isinstance(action, Deny)), None)


def _waiting(state: Arbiter, images: SlotName) -> str:
    match state.mode:
        case Mode.CLEARING:
            names = " and ".join(slot for slot in state.saved if slot in state.pending)
            return f"waiting for the GPU: {names} {'is' if len(state.pending) == 1 else 'are'} being unloaded"
        case Mode.RETURNING:
            return f"waiting for the GPU: {images} is being unloaded"
        case _:
            return "waiting for the GPU: the language models come back first"


def _dump(state: Arbiter) -> bytes:
    return jsonio.dumps_pretty({"schema": SCHEMA, **_ADAPTER.dump_python(state, mode="json")})


def _read(images: SlotName, data: bytes) -> Arbiter:
    try:
        raw: Any = jsonio.loads(data)
        schema = raw.pop("schema")
        if schema > SCHEMA:
            raise Hal0Error("state.newer", f"cannot read gpu.json of slot {images}: a newer hal0 wrote it")
        return _ADAPTER.validate_python(raw)
    except (jsonio.JSONDecodeError, AttributeError, KeyError, TypeError, ValidationError) as err:
        log.warning("gpu.json of slot %s is damaged (%s): its GPU is taken to be free", images, err)
        return REST
