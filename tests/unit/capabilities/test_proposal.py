"""What each slot of a machine is to have: its own model, else the recommended one; and which of that is to be done."""

from dataclasses import dataclass

import pytest

from hal0.capabilities.cards import Choice
from hal0.capabilities.proposal import ROWS, Standing, Suggestion, chosen, propose
from hal0.errors import Hal0Error
from hal0.vocab import Device, ProviderName, SlotName

PRIMARY, EMBED, IMG = SlotName("primary"), SlotName("embed"), SlotName("img")
NO_GPU = Hal0Error("device.missing", "cannot run on vulkan: no GPU was found")
VULKAN = Choice(ProviderName.LLAMACPP, Device.VULKAN, "vulkan", NO_GPU)
CPU = Choice(ProviderName.LLAMACPP, Device.CPU, "cpu", None)


@dataclass(frozen=True)
class Model:
    id: str
    context_size: int | None = None
    purpose: str = "to talk"
    license: str = "apache-2.0"
    size_bytes: int = 10**9
    memory_bytes: int = 2 * 10**9


OFF = "it is turned off"
BEST, OWN = Model("best", context_size=8192), Model("own")


def proposed(standing: Standing, *offered: Choice, best: Model | None = BEST) -> Suggestion:
    """For `primary`."""
    by_slot = dict.fromkeys(ROWS, offered or (VULKAN, CPU))
    first, *_ = propose(dict.fromkeys(ROWS, best), by_slot, dict.fromkeys(ROWS, standing))
    assert first.child.slot == PRIMARY
    return first


@pytest.mark.parametrize(
    ("standing", "model", "done"),
    [
        (Standing(), "best", False),
        (Standing(OWN), "own", False),  # a load that never was, or failed
        (Standing(OWN, done=True), "own", True),
        (Standing(OWN, OFF, done=True), "own", True),  # loaded by hand although it is off
    ],
)
def test_what_a_slot_has_stays(standing: Standing, model: str, done: bool) -> None:
    found = proposed(standing)
    assert found.offer is not None
    assert (found.offer.id, found.done, found.device, found.why) == (model, done, Device.CPU, "")


def test_a_recommended_model_that_is_here_already_gets_the_context_it_needs() -> None:
    assert proposed(Standing(Model("best"))).offer == BEST


@pytest.mark.parametrize(
    ("standing", "offered", "best", "why"),
    [
        (Standing(why=OFF), (CPU,), BEST, OFF),
        (Standing(OWN, OFF), (VULKAN,), BEST, OFF),
        (Standing(), (VULKAN,), BEST, NO_GPU.message),
        (Standing(), (CPU,), None, "no model of the catalog fits into this machine's memory"),
    ],
)
def test_where_nothing_is_proposed_it_says_why(
    standing: Standing, offered: tuple[Choice, ...], best: Model | None, why: str
) -> None:
    found = proposed(standing, *offered, best=best)
    assert (found.offer, found.why) == (None, why)


def test_without_an_image_nothing_runs() -> None:
    found = propose(dict.fromkeys(ROWS, BEST), dict.fromkeys(ROWS, ()), dict.fromkeys(ROWS, Standing()))
    assert {it.why for it in found} == {"this hal0 has no image that can"}


def nobody(_model: str) -> None:
    return None


def suggestions() -> list[Suggestion]:
    done, new = Standing(OWN, done=True), Standing()
    standings = {slot: done if slot == EMBED else new for slot in ROWS}
    return propose({**dict.fromkeys(ROWS, BEST), IMG: None}, dict.fromkeys(ROWS, (CPU,)), standings)


def test_what_is_proposed_and_not_done_is_to_be_done_chat_first() -> None:
    wanted = chosen(suggestions(), None, nobody)
    assert list(wanted) == ["primary", "embed-rerank", "stt", "tts"]
    assert {(it.model, it.context_size) for it in wanted.values()} == {("best", 8192)}


def test_what_is_asked_for_is_done_and_nothing_else() -> None:
    asked = {"img": "sd", "primary": "best", "embed": "own", "stt": "small"}
    wanted = chosen(suggestions(), asked, {"small": Model("small", context_size=512)}.get)
    assert [(slot, it.model, it.context_size) for slot, it in wanted.items()] == [
        ("primary", "best", 8192),
        ("embed", "own", None),  # again: whoever names it wants it loaded
        ("stt", "small", 512),  # the catalog's word
        ("img", "sd", None),  # nothing is known of its context
    ]
    assert chosen(suggestions(), {}, nobody) == {}
