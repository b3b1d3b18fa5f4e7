"""Who has the GPU, language models or images, when they do not fit on it together; and the NPU. Pure.

One arbiter per image slot on a GPU. `step` folds one event into the state and says what to do; a load that waits asks
again after every change. It rests on what is so now (`gpu_news`), so it goes on after a restart as after any other
moment. Slots on the CPU and the NPU never come here.

    llm -> clearing -> starting -> images -> returning -> restoring -> llm
           (the llm set drains)    |          (images drain; asked for again: starting)
           whatever fails leads to restoring: the set that was saved before anything was unloaded comes back
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias, assert_never

from hal0.errors import Hal0Error
from hal0.slots.gpu_words import (
    Action,
    Arrived,
    Deny,
    Event,
    Failed,
    Forgotten,
    Hold,
    ImagesWanted,
    Left,
    LlmWanted,
    Load,
    Proceed,
    Report,
    Save,
    Tick,
    Unload,
)
from hal0.vocab import SlotName

# The promise's `idle_restore_min`: an hour without images gives the GPU back.
IDLE_RESTORE_S: Final = 3600.0
# A client that is told to come back sooner only meets the same answer.
_RETRY_LEAST_S: Final = 15.0
_RETRY_PINNED_S: Final = 60.0  # nobody knows when somebody will take the pin away


class Mode(StrEnum):
    LLM = "llm"
    CLEARING = "clearing"
    STARTING = "starting"
    IMAGES = "images"
    RETURNING = "returning"
    RESTORING = "restoring"


@dataclass(frozen=True, slots=True)
class Group:
    """The image slot of a GPU; with `idle_restore_s` 0, or `pinned`, it stays until somebody unloads it."""

    images: SlotName
    idle_restore_s: float = IDLE_RESTORE_S
    pinned: bool = False

    @property
    def stays(self) -> bool:
        return self.pinned or self.idle_restore_s <= 0


@dataclass(frozen=True, slots=True)
class Arbiter:
    """The state, as it is remembered across restarts. `last_image` in seconds on the caller's clock.

    `saved`: the llm set that comes back. `pending`: of it, what is still leaving (clearing) or coming (restoring).
    `wanted`: images were asked for while they were leaving.
    """

    mode: Mode = Mode.LLM
    saved: tuple[SlotName, ...] = ()
    pending: frozenset[SlotName] = frozenset()
    wanted: bool = False
    last_image: float = 0.0


REST: Final = Arbiter()

Step: TypeAlias = tuple[Arbiter, tuple[Action, ...]]


def step(state: Arbiter, event: Event, group: Group, now: float) -> Step:
    """The state after `event`, and what to do about it, in this order."""
    match event:
        case ImagesWanted():
            return _images_wanted(replace(state, last_image=now), event, group)
        case LlmWanted():
            return state, _llm_wanted(state, event, group, now)
        case Tick(used_at):
            return _tick(replace(state, last_image=max(state.last_image, used_at)), group, now)
        case _:
            return _reported(state, event, group, now)


def npu_refusal(slot: SlotName, holders: Iterable[SlotName]) -> Hal0Error | None:
    """409 slot.npu_exclusive when another slot has the NPU: it holds one language model at a time."""
    holder = next((name for name in holders if name != slot), None)
    if holder is None:
        return None
    return Hal0Error(
        "slot.npu_exclusive",
        f"cannot load {slot} on the NPU: {holder} is loaded there, and the NPU holds one model at a time",
        details={"slot": slot, "holder": holder, "blocked_by": [holder]},
        hint=f"hal0ctl slot unload {holder}",
    )


# -- requests ---------------------------------------------------------------------------------------------------------


def _images_wanted(state: Arbiter, event: ImagesWanted, group: Group) -> Step:
    match state.mode:
        case Mode.LLM if not event.fits and event.llm:
            leaving = replace(state, mode=Mode.CLEARING, saved=event.llm, pending=frozenset(event.llm))
            return leaving, (Save(), Unload(event.llm), Hold())
        case Mode.LLM | Mode.IMAGES | Mode.STARTING:
            return state, (Proceed(),)
        case Mode.RETURNING:
            return replace(state, wanted=True), (Hold(),)
        case Mode.CLEARING | Mode.RESTORING:
            return state, (Hold(),)
        case _:
            assert_never(state.mode)


def _llm_wanted(state: Arbiter, event: LlmWanted, group: Group, now: float) -> tuple[Action, ...]:
    match state.mode:
        case Mode.LLM | Mode.RESTORING:
            return (Proceed(),)
        case Mode.RETURNING:
            return (Hold(),)
        case Mode.IMAGES if event.fits:
            return (Proceed(),)
        case Mode.IMAGES | Mode.STARTING | Mode.CLEARING:
            return (Deny(_image_mode(state, event.slot, group, now)),)
        case _:
            assert_never(state.mode)


def _image_mode(state: Arbiter, slot: SlotName, group: Group, now: float) -> Hal0Error:
    left = _RETRY_PINNED_S if group.stays else max(state.last_image + group.idle_restore_s - now, _RETRY_LEAST_S)
    return Hal0Error(
        "gpu.image_mode",
        f"cannot answer with {slot}: the GPU makes images, and both do not fit on it",
        details={"slot": slot, "holder": group.images, "pinned": group.pinned},
        hint=f"hal0ctl slot unload {group.images} gives the GPU back now.",
        retry_after_s=left,
    )


# -- switching --------------------------------------------------------------------------------------------------------


def _tick(state: Arbiter, group: Group, now: float) -> Step:
    match state.mode:
        case Mode.LLM:
            return state, ()
        case Mode.CLEARING:
            return state, (Unload(_in_order(state)),)
        case Mode.STARTING:
            return state, (Load((group.images,)),)
        case Mode.IMAGES:
            over = now - state.last_image >= group.idle_restore_s
            return _return(state, group) if over and not group.stays else (state, ())
        case Mode.RETURNING:
            return state, (Unload((group.images,)),)
        case Mode.RESTORING:
            return state, (Load(_in_order(state)),)
        case _:
            assert_never(state.mode)


def _in_order(state: Arbiter) -> tuple[SlotName, ...]:
    """What is still leaving or coming, in the order of the set."""
    return tuple(slot for slot in state.saved if slot in state.pending)


def _return(state: Arbiter, group: Group) -> Step:
    return replace(state, mode=Mode.RETURNING, wanted=False), (Save(), Unload((group.images,)))


def _start(state: Arbiter, group: Group) -> Step:
    started = replace(state, mode=Mode.STARTING, pending=frozenset(), wanted=False)
    return started, (Save(), Load((group.images,)))


def _bring_back(state: Arbiter, slots: Iterable[SlotName]) -> Step:
    """Load these of the saved set, in its order; without any, all is as it was."""
    missing = frozenset(slots)
    if not missing:
        return replace(state, mode=Mode.LLM, saved=(), pending=missing, wanted=False), (Save(),)
    restoring = replace(state, mode=Mode.RESTORING, pending=missing, wanted=False)
    return restoring, (Save(), Load(_in_order(restoring)))


def _one_less(state: Arbiter, slot: SlotName) -> Step:
    """One of those that were coming back is here, or never will be."""
    pending = state.pending - {slot}
    return (replace(state, pending=pending), ()) if pending else _bring_back(state, ())


def _reported(state: Arbiter, report: Report, group: Group, now: float) -> Step:
    match report:
        case Arrived(slot):
            return _arrived(state, slot, group, now)
        case Left(slot):
            return _left(state, slot, group)
        case Failed(slot):
            return _failed(state, slot, group, now)
        case Forgotten(slot):
            return _forgotten(state, slot)
        case _:
            assert_never(report)


def _arrived(state: Arbiter, slot: SlotName, group: Group, now: float) -> Step:
    if state.mode is Mode.STARTING and slot == group.images:
        return replace(state, mode=Mode.IMAGES, last_image=now), (Save(),)
    if state.mode is Mode.RESTORING and slot in state.pending:
        return _one_less(state, slot)
    return state, ()


def _left(state: Arbiter, slot: SlotName, group: Group) -> Step:
    images = slot == group.images
    match state.mode:
        case Mode.CLEARING if slot in state.pending:
            pending = state.pending - {slot}
            return (replace(state, pending=pending), ()) if pending else _start(state, group)
        case Mode.RETURNING if images and state.wanted:
            return _start(state, group)
        case Mode.CLEARING | Mode.STARTING | Mode.IMAGES | Mode.RETURNING if images:  # nobody wants them any more
            return _bring_back(state, state.saved)
        case Mode.RESTORING if slot in state.pending:
            return _one_less(state, slot)
        case _:
            return state, ()


def _failed(state: Arbiter, slot: SlotName, group: Group, now: float) -> Step:
    images = slot == group.images
    match state.mode:
        case Mode.CLEARING if slot in state.pending:  # it will not go: the others come back, on their way out or not
            return _bring_back(state, (name for name in state.saved if name != slot))
        case Mode.STARTING | Mode.IMAGES if images:  # a next try would take the GPU again: somebody has to want that
            back, actions = _bring_back(state, state.saved)
            return back, (*actions, Unload((group.images,)))
        case Mode.RETURNING if images:  # it will not go: images go on, and it is tried again after the next window
            return replace(state, mode=Mode.IMAGES, wanted=False, last_image=now), (Save(),)
        case Mode.RESTORING if slot in state.pending:
            return _one_less(state, slot)
        case _:
            return state, ()


def _forgotten(state: Arbiter, slot: SlotName) -> Step:
    if slot not in state.saved:
        return state, ()
    known = replace(state, saved=tuple(name for name in state.saved if name != slot))
    if state.mode is Mode.RESTORING:
        known, actions = _one_less(known, slot)
        return known, (Save(), *actions)
    return known, (Save(),)  # one that is leaving still has to be waited for
