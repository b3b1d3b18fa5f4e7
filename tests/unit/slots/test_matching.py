"""A model of another engine's: refused before anything is stopped or made, with who would serve it."""

from dataclasses import replace
from pathlib import Path

import pytest

from hal0.config.defaults import ModelDefaults
from hal0.errors import Hal0Error
from hal0.providers.catalog import PROVIDERS
from hal0.slots.matching import require_match
from hal0.vocab import Phase, ProviderName
from tests.fakes.engine import FakeEngine
from tests.fakes.world import FakeModel, World

CHAT = FakeModel("chat", ())
MOONSHINE = FakeModel("tiny", (), format="onnx", architecture="moonshine")
VOICE = FakeModel("voice", (), format="onnx", architecture="kokoro")
CLONES = FakeModel("f5", (), format="safetensors", architecture="f5-tts")
PICTURES = FakeModel("sd", (), format="safetensors", architecture="sd15")
NPU = FakeModel("qwen3:4b", (), format="q4nx", architecture="qwen3")
SERVED_BY = (
    (CHAT, ProviderName.LLAMACPP),
    (MOONSHINE, ProviderName.MOONSHINE),
    (VOICE, ProviderName.KOKORO),
    (CLONES, ProviderName.KOKORO),
    (PICTURES, ProviderName.COMFYUI),
    (NPU, ProviderName.FLM),
)


@pytest.mark.parametrize(("model", "served_by"), SERVED_BY, ids=lambda value: getattr(value, "id", ""))
@pytest.mark.parametrize("name", [name for name in ProviderName if name is not ProviderName.UPSTREAM])
def test_each_kind_of_model_has_its_one_provider(model: FakeModel, served_by: ProviderName, name: ProviderName) -> None:
    if name is served_by:
        require_match(model, PROVIDERS[name])
        return
    with pytest.raises(Hal0Error) as refused:
        require_match(model, PROVIDERS[name])
    assert (refused.value.code, refused.value.param) == ("dispatch.capability_mismatch", "model")
    assert refused.value.details["served_by"] == [served_by]
    assert refused.value.message.endswith(f"which {served_by} serves")


@pytest.mark.parametrize(
    ("form", "architecture"), [("ort", "moonshine-streaming"), ("safetensors", "sd3"), ("gguf", "flux")]
)
def test_what_nothing_here_loads_is_said_to_be_that(form: str, architecture: str) -> None:
    model = FakeModel("new", (), format=form, architecture=architecture)
    with pytest.raises(Hal0Error) as refused:
        require_match(model, PROVIDERS[ProviderName.COMFYUI])
    assert refused.value.message.endswith("which no provider of this hal0 serves")
    assert ("safetensors files alone" in (refused.value.hint or "")) is (form == "gguf")


async def test_a_load_or_swap_that_names_one_changes_nothing(tmp_path: Path, port_block: range) -> None:
    world = World(tmp_path, port_block, FakeEngine())
    async with world.hal0(primary={"model": "one"}) as hal0:
        world.models.known["tiny"] = replace(MOONSHINE, files=world.models.require("one").files)
        await (await hal0.supervisor.load("primary")).wait()
        before = hal0.supervisor.slot("primary").life.facts.current
        for verb in (hal0.supervisor.load, hal0.supervisor.swap):
            with pytest.raises(Hal0Error, match="which moonshine serves"):
                await verb("primary", "tiny")
        slot = hal0.supervisor.slot("primary")
        assert slot.life.phase is Phase.READY
        assert slot.life.facts.current == before


async def test_defaults_that_its_engine_must_not_have_rest_in_error(tmp_path: Path, port_block: range) -> None:
    world = World(tmp_path, port_block, FakeEngine())
    async with world.hal0(primary={"model": "one"}) as hal0:
        world.models.known["one"] = replace(world.models.require("one"), defaults=ModelDefaults(extra_args="--host ::"))
        world.models.version += 1
        ended = await (await hal0.supervisor.load("primary")).wait()
        assert ended.error is not None
        assert (ended.error["code"], "--host" in ended.error["message"]) == ("config.invalid", True)
        failure = hal0.supervisor.slot("primary").view().failure
        assert failure is not None
        assert failure.failure_class == "permanent"
        assert world.engine.all == []


async def test_one_that_is_configured_rests_in_error_and_makes_no_container(tmp_path: Path, port_block: range) -> None:
    world = World(tmp_path, port_block, FakeEngine())
    world.models.add(tmp_path / "models", "tiny")
    world.models.known["tiny"] = replace(MOONSHINE, files=world.models.require("tiny").files)
    async with world.hal0(primary={"model": "tiny"}) as hal0:
        ended = await (await hal0.supervisor.load("primary")).wait()
        assert ended.error is not None
        assert ended.error["code"] == "dispatch.capability_mismatch"
        failure = hal0.supervisor.slot("primary").view().failure
        assert failure is not None
        assert failure.failure_class == "permanent"
        assert world.engine.all == []
