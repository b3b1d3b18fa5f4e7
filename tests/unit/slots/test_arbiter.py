"""The GPU arbiter: its table, its refusals, and random lives in which nothing is lost and nothing collides."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.slots.arbiter import IDLE_RESTORE_S, Arbiter, Group, Mode, npu_refusal, step
from hal0.slots.gpu_words import (
    Action,
    Arrived,
    Booted,
    Deny,
    Event,
    Failed,
    Forgotten,
    Free,
    Hold,
    ImageDone,
    ImagesWanted,
    Left,
    LlmWanted,
    Load,
    Pin,
    Proceed,
    Restore,
    Save,
    Tick,
    Unload,
)
from hal0.vocab import SlotName

A, B, IMG = SlotName("a"), SlotName("b"), SlotName("img")
GROUP: Final = Group(IMG)
NOW: Final = 10_000.0
SET: Final = (A, B)

REST = Arbiter()
CLEARING = Arbiter(Mode.CLEARING, SET, frozenset(SET), last_image=NOW)
STARTING = Arbiter(Mode.STARTING, SET, last_image=NOW)
IMAGES = Arbiter(Mode.IMAGES, SET, last_image=NOW)
PINNED = replace(IMAGES, pinned=True)
RETURNING = replace(IMAGES, mode=Mode.RETURNING)
RESTORING = Arbiter(Mode.RESTORING, SET, frozenset(SET), last_image=NOW)
HOUR = NOW + IDLE_RESTORE_S
WANTED = ImagesWanted(SET, fits=False)
IMG_LOAD, IMG_UNLOAD, SET_LOAD = Load((IMG,)), Unload((IMG,)), Load(SET)

TABLE: Final[dict[str, tuple[Arbiter, Event, float, Mode, tuple[Action, ...]]]] = {
    "images beside a model when both fit": (
        REST, ImagesWanted(SET, fits=True), NOW, Mode.LLM, (IMG_LOAD, Proceed()),
    ),
    "nobody to clear: the load itself says what is short": (
        REST, ImagesWanted((), fits=False), NOW, Mode.LLM, (IMG_LOAD, Proceed()),
    ),
    "the set is saved before it leaves": (REST, WANTED, NOW, Mode.CLEARING, (Save(), Unload(SET), Hold())),
    "a second request joins": (CLEARING, WANTED, NOW, Mode.CLEARING, (Hold(),)),
    "one of two has left": (CLEARING, Left(A), NOW, Mode.CLEARING, ()),
    "the last has left": (
        replace(CLEARING, pending=frozenset({B})), Left(B), NOW, Mode.STARTING, (Save(), IMG_LOAD),
    ),
    "one will not leave": (CLEARING, Failed(A), NOW, Mode.RESTORING, (Save(), Load((B,)))),
    "images are ready": (STARTING, Arrived(IMG), NOW, Mode.IMAGES, (Save(),)),
    "images fail to load": (STARTING, Failed(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD)),
    "images go on": (IMAGES, WANTED, NOW, Mode.IMAGES, (IMG_LOAD, Proceed())),
    "within the hour nothing happens": (IMAGES, Tick(busy=False), HOUR - 1, Mode.IMAGES, ()),
    "after the hour the set returns": (
        IMAGES, Tick(busy=False), HOUR, Mode.RETURNING, (Save(), Free(), IMG_UNLOAD),
    ),
    "a busy queue begins a new hour": (IMAGES, Tick(busy=True), HOUR, Mode.IMAGES, ()),
    "pin holds it": (PINNED, Tick(busy=False), HOUR * 9, Mode.IMAGES, ()),
    "the operator may ask for the set": (IMAGES, Restore(), NOW, Mode.RETURNING, (Save(), Free(), IMG_UNLOAD)),
    "and insist": (PINNED, Restore(force=True), NOW, Mode.RETURNING, (Save(), Free(), IMG_UNLOAD)),
    "images are gone": (RETURNING, Left(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD)),
    "asked for again on their way out": (RETURNING, WANTED, NOW, Mode.RETURNING, (Hold(),)),
    "and back they come": (replace(RETURNING, wanted=True), Left(IMG), NOW, Mode.STARTING, (Save(), IMG_LOAD)),
    "images will not leave": (RETURNING, Failed(IMG), NOW, Mode.IMAGES, (Save(),)),
    "one is back": (RESTORING, Arrived(A), NOW, Mode.RESTORING, ()),
    "one never will be": (RESTORING, Failed(A), NOW, Mode.RESTORING, ()),
    "all are back": (replace(RESTORING, pending=frozenset({B})), Arrived(B), NOW, Mode.LLM, (Save(),)),
    "the operator unloaded one meanwhile": (IMAGES, Forgotten(A), NOW, Mode.IMAGES, (Save(),)),
    "the operator unloaded the last that was to come": (
        replace(RESTORING, pending=frozenset({B})), Forgotten(B), NOW, Mode.LLM, (Save(), Save()),
    ),
    "a stranger's news changes nothing": (IMAGES, Left(A), NOW, Mode.IMAGES, ()),
    "the operator unloaded images": (IMAGES, Left(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD)),
    "unless they are pinned": (PINNED, Left(IMG), NOW, Mode.IMAGES, ()),
    "images that fail for good give the GPU back, pinned or not": (
        PINNED, Failed(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD),
    ),
    "a model waits for its return": (RETURNING, LlmWanted(A, fits=False), NOW, Mode.RETURNING, (Hold(),)),
    "a model goes to its own gate": (RESTORING, LlmWanted(A, fits=False), NOW, Mode.RESTORING, (Proceed(),)),
    "a small model beside images": (IMAGES, LlmWanted(A, fits=True), NOW, Mode.IMAGES, (Proceed(),)),
    "boot while clearing": (CLEARING, Booted(frozenset({B})), NOW, Mode.CLEARING, (Unload((B,)),)),
    "boot when all had left": (CLEARING, Booted(frozenset()), NOW, Mode.STARTING, (Save(), IMG_LOAD)),
    "boot with images": (IMAGES, Booted(frozenset({IMG})), NOW, Mode.IMAGES, ()),
    "boot without the images that were here": (
        IMAGES, Booted(frozenset({A})), NOW, Mode.RESTORING, (Save(), Load((B,))),
    ),
    "boot with pinned images": (PINNED, Booted(frozenset()), NOW, Mode.IMAGES, (IMG_LOAD,)),
    "boot while returning": (RETURNING, Booted(frozenset({IMG})), NOW, Mode.RETURNING, (Save(), Free(), IMG_UNLOAD)),
    "boot with all back": (RESTORING, Booted(frozenset(SET)), NOW, Mode.LLM, (Save(),)),
    "boot at rest": (REST, Booted(frozenset(SET)), NOW, Mode.LLM, ()),
}  # fmt: skip


@pytest.mark.parametrize(("state", "event", "now", "mode", "actions"), TABLE.values(), ids=TABLE)
def test_the_table(state: Arbiter, event: Event, now: float, mode: Mode, actions: tuple[Action, ...]) -> None:
    after, done = step(state, event, GROUP, now)
    assert (after.mode, done) == (mode, actions)


@pytest.mark.parametrize("mode", Mode)
def test_at_rest_nothing_is_saved(mode: Mode) -> None:
    state = Arbiter(mode, SET, frozenset({A}))
    for event in (Arrived(A), Failed(A), Left(A), Left(IMG), Failed(IMG), Forgotten(A)):
        after, _ = step(state, event, GROUP, NOW)
        assert after.mode is not Mode.LLM or mode is Mode.LLM or (after.saved, after.pending) == ((), frozenset())


@pytest.mark.parametrize(
    ("state", "now", "retry_after"),
    [(IMAGES, NOW + 600, 3000.0), (IMAGES, HOUR, 15.0), (PINNED, NOW, 60.0), (CLEARING, NOW, 3600.0)],
)
def test_models_are_told_when_to_come_back(state: Arbiter, now: float, retry_after: float) -> None:
    _, (action,) = step(state, LlmWanted(A, fits=False), GROUP, now)
    assert isinstance(action, Deny)
    assert (action.error.code, action.error.status, action.error.retry_after_s) == ("gpu.image_mode", 503, retry_after)


def test_a_pin_refuses_the_set_unless_it_is_insisted_on() -> None:
    after, (action,) = step(PINNED, Restore(), GROUP, NOW)
    assert isinstance(action, Deny)
    assert (after, action.error.code) == (PINNED, "slot.pinned")


def test_without_a_window_images_stay() -> None:
    assert step(IMAGES, Tick(busy=False), Group(IMG, idle_restore_s=0), HOUR * 9) == (IMAGES, ())


def test_the_end_of_an_image_begins_the_hour() -> None:
    after, _ = step(IMAGES, ImageDone(), GROUP, NOW + 100)
    assert step(after, Tick(busy=False), GROUP, HOUR + 99)[0].mode is Mode.IMAGES
    assert step(after, Tick(busy=False), GROUP, HOUR + 100)[0].mode is Mode.RETURNING


def test_the_npu_holds_one_model() -> None:
    assert npu_refusal(A, []) is None
    assert npu_refusal(A, [A]) is None
    error = npu_refusal(A, [A, B])
    assert error is not None
    assert (error.code, error.status) == ("slot.npu_exclusive", 409)
    assert error.details == {"slot": "a", "holder": "b", "blocked_by": ["b"]}


# -- random lives -----------------------------------------------------------------------------------------------------


class World:
    """Slots that never fit together with images; loads and unloads end when and how the test decides."""

    def __init__(self) -> None:
        self.state = self.disk = Arbiter()
        self.up = {A, B}  # holds GPU memory
        self.work: list[Load | Unload] = []
        self.lost: set[SlotName] = set()  # not to be expected back
        self.now = NOW

    def happen(self, event: Event) -> None:
        self.state, actions = step(self.state, event, GROUP, self.now)
        for action in actions:
            match action:
                case Save():
                    self.disk = self.state
                case Unload(slots):
                    assert all(slot == IMG or slot in self.disk.saved or slot in self.lost for slot in slots)
                    self.work += [Unload((slot,)) for slot in slots]
                case Load(slots):
                    for slot in slots:
                        # What was still to leave is wanted again: the slot's actor takes the last wish.
                        self.work = [w for w in self.work if w.slots != (slot,)]
                        self.begin(slot)
                case _:
                    pass

    def begin(self, slot: SlotName) -> None:
        others = self.up & ({A, B} if slot == IMG else {IMG})
        stuck = others & self.lost  # it would not leave, or somebody loads beside: the ledger's business
        assert not others - stuck, f"{slot} is loaded beside {others}"
        self.up.add(slot)
        self.work.append(Load((slot,)))

    def finish(self, pick: int, *, well: bool) -> None:
        if not self.work:
            return
        work = self.work.pop(pick % len(self.work))
        (slot,) = work.slots
        if isinstance(work, Unload) and well:
            self.up.discard(slot)
            self.happen(Left(slot))
        elif isinstance(work, Unload):
            self.lost |= {slot} - {IMG}
            self.happen(Failed(slot))
        elif well:
            self.happen(Arrived(slot))
        else:
            self.up.discard(slot)
            self.lost |= {slot} - {IMG}
            self.happen(Failed(slot))

    def do(self, op: str, pick: int) -> None:
        match op:
            case "images":
                self.happen(ImagesWanted(tuple(sorted(self.up - {IMG})), fits=not self.up - {IMG}))
            case "finish" | "fail":
                self.finish(pick, well=op == "finish")
            case "hour":
                self.now += IDLE_RESTORE_S
                self.happen(Tick(busy=False))
            case "pin" | "unpin":
                self.happen(Pin(op == "pin"))
            case "forget":
                slot = (A, B)[pick % 2]
                if slot not in self.up:
                    self.lost.add(slot)
                    self.happen(Forgotten(slot))
            case "reboot":
                self.state = self.disk
                self.work = [Load(w.slots) for w in self.work if isinstance(w, Load)]  # those go on by themselves
                self.happen(Booted(frozenset(self.up)))
            case _:
                self.happen(Restore(force=True))


OPS = st.sampled_from(["images", "finish", "finish", "fail", "hour", "pin", "unpin", "forget", "reboot", "restore"])


@settings(max_examples=400)
@given(st.lists(st.tuples(OPS, st.integers(0, 5)), min_size=10, max_size=40))
def test_whatever_happens_nothing_collides_and_the_set_comes_back(ops: list[tuple[str, int]]) -> None:
    world = World()
    for op, pick in ops:
        world.do(op, pick)
    world.do("unpin", 0)
    for _ in range(5):  # everything ends well from here on
        while world.work:
            world.do("finish", 0)
        world.do("hour", 0)
    assert world.state.mode is Mode.LLM
    assert world.state.saved == world.disk.saved == ()
    assert {A, B} - world.lost <= world.up
