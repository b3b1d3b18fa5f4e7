"""What turning a row on takes, as a table: the fields that are written, the model, or the refusal."""

from pathlib import Path
from typing import Any

import pytest

from hal0.capabilities.cards import RERANKER, Choice, find
from hal0.capabilities.plan import Now, plan
from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error
from hal0.models.entry import ModelEntry
from hal0.vocab import Capability, Device, ModelId, ProviderName
from hal0.wire.capabilities import SelectRequest

LLAMA = ProviderName.LLAMACPP
NO_GPU = Hal0Error("device.missing", "cannot run on vulkan: no GPU was found")
OFFERED = (
    Choice(LLAMA, Device.VULKAN, "vulkan", NO_GPU),
    Choice(LLAMA, Device.CPU, "cpu", None),
)
EMBED, RERANK, CHAT = Capability.EMBED, Capability.RERANK, Capability.CHAT
MODELS = {"nomic": EMBED, "mini": EMBED, RERANKER: RERANK, "talker": CHAT}


def require(name: str) -> ModelEntry:
    if name not in MODELS:
        raise Hal0Error("model.not_downloaded", f"cannot use the model {name!r}: it is not downloaded")
    return ModelEntry(
        id=ModelId(name), files=(Path(f"/m/{name}"),), size_bytes=438_000_000, created=0, architecture="bert",
        context_length=512, capabilities=frozenset({MODELS[name]}), quantisation=None,
    )  # fmt: skip


def made(row: str, now: Now, installed: tuple[str, ...] = (), **asked: Any) -> Any:
    return plan(find(*row.split("/")), SelectRequest(**asked), now, OFFERED, installed, require)


NEW = Now(None, None)
EMPTY = Now(SlotConfig(), None)
TURNED_OFF = Now(SlotConfig(model="nomic", load_on_request=False), "nomic")
LOADED = Now(SlotConfig(model="nomic", device=Device.CPU), "nomic")


@pytest.mark.parametrize(
    ("row", "now", "asked", "fields", "model"),
    [
        (
            "embed/rerank", NEW, {},
            {"provider": "llama.cpp", "extra_args": ["--reranking"], "model": RERANKER}, RERANKER,
        ),
        (
            "embed/rerank", NEW, {"device": "cpu"},
            {"provider": "llama.cpp", "extra_args": ["--reranking"], "device": "cpu", "model": RERANKER}, RERANKER,
        ),
        ("embed/embed", EMPTY, {"model": "nomic"}, {"model": "nomic"}, "nomic"),
        ("embed/embed", TURNED_OFF, {}, {"load_on_request": True}, "nomic"),
        ("embed/embed", LOADED, {}, {}, "nomic"),
        ("embed/embed", LOADED, {"model": "mini"}, {"model": "mini"}, "mini"),
        ("embed/embed", Now(SlotConfig(model="nomic"), "mini"), {}, {"model": "mini"}, "mini"),  # the live one counts
        ("embed/embed", Now(SlotConfig(), "nomic"), {"device": "cpu"}, {"device": "cpu", "model": "nomic"}, "nomic"),
    ],
)  # fmt: skip
def test_only_what_is_not_so_is_written(row: str, now: Now, asked: Any, fields: Any, model: str) -> None:
    found = made(row, now, **asked)
    assert (found.fields, found.model, found.creates) == (fields, model, now.config is None)
    assert found.steps[-1] == f"load {model} (0.4 GB)"


def test_a_container_that_would_be_another_one_is_replaced() -> None:
    assert made("embed/embed", Now(SlotConfig(), "nomic"), device="cpu").restarts
    assert not made("embed/embed", LOADED, model="mini").restarts


def test_the_first_enable_says_where_the_slot_will_be() -> None:
    assert made("embed/rerank", NEW).steps[0] == (
        "create slot embed-rerank in slots.d/embed-rerank.toml, on port 8086 if that is free"
    )


def test_the_only_model_that_can_do_it_is_taken_and_among_several_none_is() -> None:
    assert made("embed/embed", EMPTY, ("nomic",)).model == "nomic"
    with pytest.raises(Hal0Error, match="installed: mini, nomic") as caught:
        made("embed/embed", EMPTY, ("mini", "nomic"))
    assert caught.value.code == "slot.no_model"
    assert caught.value.hint == "hal0ctl cap enable embed embed --model MODEL"


@pytest.mark.parametrize(
    ("row", "now", "asked", "code", "said"),
    [
        ("embed/embed", EMPTY, {}, "slot.no_model", "none is installed"),
        ("embed/embed", EMPTY, {"model": "gone"}, "model.not_downloaded", "gone"),
        ("embed/embed", EMPTY, {"model": "talker"}, "dispatch.capability_mismatch", "it can chat"),
        ("embed/rerank", NEW, {"model": "nomic"}, "dispatch.capability_mismatch", "it can embed"),
        ("embed/embed", EMPTY, {"model": "nomic", "device": "vulkan"}, "device.missing", "no GPU"),
        ("embed/embed", EMPTY, {"model": "nomic", "device": "npu"}, "image.unfit", "vulkan or cpu"),
        ("embed/embed", EMPTY, {"model": "nomic", "provider": "moonshine"}, "config.invalid", "there are llama.cpp"),
        ("npu/asr", NEW, {}, "slot.illegal_transition", "npu/chat"),
    ],
)
def test_refusals(row: str, now: Now, asked: Any, code: str, said: str) -> None:
    with pytest.raises(Hal0Error, match=said) as caught:
        made(row, now, **asked)
    assert caught.value.code == code


def test_without_an_image_that_can_nothing_is_promised() -> None:
    with pytest.raises(Hal0Error) as caught:
        plan(find("embed", "embed"), SelectRequest(), EMPTY, (), (), require)
    assert caught.value.code == "image.missing"
