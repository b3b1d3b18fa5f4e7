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
PINNED: Final = replace(GROUP, pinned=True)
RETURNING = replace(IMAGES, mode=Mode.RETURNING)
RESTORING = Arbiter(Mode.RESTORING, SET, frozenset(SET), last_image=NOW)
HOUR = NOW + IDLE_RESTORE_S
WANTED = ImagesWanted(SET, fits=False)
IMG_LOAD, IMG_UNLOAD, SET_LOAD = Load((IMG,)), Unload((IMG,)), Load(SET)

OLD: Final = Tick(NOW - 1)

TABLE: Final[dict[str, tuple[Arbiter, Event, float, Mode, tuple[Action, ...]]]] = {
    "images beside a model when both fit": (REST, ImagesWanted(SET, fits=True), NOW, Mode.LLM, (Proceed(),)),
    "nobody to clear: the load itself says what is short": (
        REST, ImagesWanted((), fits=False), NOW, Mode.LLM, (Proceed(),),
    ),
    "the set is saved before it leaves": (REST, WANTED, NOW, Mode.CLEARING, (Save(), Unload(SET), Hold())),
    "a second request joins": (CLEARING, WANTED, NOW, Mode.CLEARING, (Hold(),)),
    "one of two has left": (CLEARING, Left(A), NOW, Mode.CLEARING, ()),
    "the last has left": (
        replace(CLEARING, pending=frozenset({B})), Left(B), NOW, Mode.STARTING, (Save(), IMG_LOAD),
    ),
    "one will not leave": (CLEARING, Failed(A), NOW, Mode.RESTORING, (Save(), Load((B,)))),
    "images are ready": (STARTING, Arrived(IMG), NOW, Mode.IMAGES, (Save(),)),
    "images are not wanted any more while the set leaves": (
        CLEARING, Left(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD),
    ),
    "images fail to load, and are not tried again by themselves": (
        STARTING, Failed(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD, IMG_UNLOAD),
    ),
    "images go on": (IMAGES, WANTED, NOW, Mode.IMAGES, (Proceed(),)),
    "within the hour nothing happens": (IMAGES, OLD, HOUR - 1, Mode.IMAGES, ()),
    "after the hour the set returns": (IMAGES, OLD, HOUR, Mode.RETURNING, (Save(), IMG_UNLOAD)),
    "a busy slot begins a new hour": (IMAGES, Tick(HOUR), HOUR, Mode.IMAGES, ()),
    "what does not leave is told again": (replace(CLEARING, pending=frozenset({B})), OLD, NOW, Mode.CLEARING,
        (Unload((B,)),)),
    "so is the load of images": (STARTING, OLD, NOW, Mode.STARTING, (IMG_LOAD,)),
    "and their unload": (RETURNING, OLD, NOW, Mode.RETURNING, (IMG_UNLOAD,)),
    "and who comes back": (RESTORING, OLD, NOW, Mode.RESTORING, (SET_LOAD,)),
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
    "images that fail give the GPU back": (
        IMAGES, Failed(IMG), NOW, Mode.RESTORING, (Save(), SET_LOAD, IMG_UNLOAD),
    ),
    "a model waits for its return": (RETURNING, LlmWanted(A, fits=False), NOW, Mode.RETURNING, (Hold(),)),
    "a model goes to its own gate": (RESTORING, LlmWanted(A, fits=False), NOW, Mode.RESTORING, (Proceed(),)),
    "a small model beside images": (IMAGES, LlmWanted(A, fits=True), NOW, Mode.IMAGES, (Proceed(),)),
    "at rest": (REST, OLD, HOUR, Mode.LLM, ()),
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
    ("state", "group", "now", "retry_after"),
    [
        (IMAGES, GROUP, NOW + 600, 3000.0),
        (IMAGES, GROUP, HOUR, 15.0),
        (IMAGES, PINNED, NOW, 60.0),
        (CLEARING, GROUP, NOW, 3600.0),
    ],
)
def test_models_are_told_when_to_come_back(state: Arbiter, group: Group, now: float, retry_after: float) -> None:
    _, (action,) = step(state, LlmWanted(A, fits=False), group, now)
    assert isinstance(action, Deny)
    assert (action.error.code, action.error.status, action.error.retry_after_s) == ("gpu.image_mode", 503, retry_after)


@pytest.mark.parametrize("group", [PINNED, Group(IMG, idle_restore_s=0)])
def test_pinned_or_without_a_window_images_stay(group: Group) -> None:
    assert step(IMAGES, OLD, group, HOUR * 9) == (IMAGES, ())


def test_the_last_image_begins_the_hour() -> None:
    after, _ = step(IMAGES, Tick(NOW + 100), GROUP, NOW + 100)
    assert step(after, OLD, GROUP, HOUR + 99)[0].mode is Mode.IMAGES
    assert step(after, OLD, GROUP, HOUR + 100)[0].mode is Mode.RETURNING


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
        self.group = GROUP

    def happen(self, event: Event) -> None:
        self.state, actions = step(self.state, event, self.group, self.now)
        for action in actions:
            match action:
                case Save():
                    self.disk = self.state
                case Unload(slots):
                    assert all(slot == IMG or slot in self.disk.saved or slot in self.lost for slot in slots)
                    under_way = {work.slots for work in self.work if isinstance(work, Unload)}
                    self.work += [Unload((slot,)) for slot in slots if slot in self.up and (slot,) not in under_way]
                case Proceed() if IMG not in self.up:
                    self.begin(IMG)
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
                self.happen(Tick(0.0))
            case "pin" | "unpin":
                self.group = replace(GROUP, pinned=op == "pin")
            case "forget":
                slot = (A, B)[pick % 2]
                if slot not in self.up:
                    self.lost.add(slot)
                    self.happen(Forgotten(slot))
            case "reboot":
                self.state = self.disk
                self.work = [Load(w.slots) for w in self.work if isinstance(w, Load)]  # those go on by themselves
                self.look()
            case _:
                if IMG in self.up and not self.work:  # the operator unloads images
                    self.up.discard(IMG)
                    self.happen(Left(IMG))

    def look(self) -> None:
        """What `gpu_news` tells of those that are waited for, and what is ordered again."""
        loading = {slot for work in self.work for slot in work.slots}
        match self.state.mode:
            case Mode.CLEARING:
                reports: list[Event] = [Left(slot) for slot in sorted(self.state.pending - self.up)]
            case Mode.RESTORING:
                reports = [Arrived(slot) for slot in sorted(self.state.pending & self.up - loading)]
            case Mode.LLM:
                reports = []
            case _ if IMG not in self.up:
                reports = [Left(IMG)]
            case _:
                reports = [Arrived(IMG)] if IMG not in loading else []
        for event in (*reports, Tick(0.0)):
            self.happen(event)


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
