"""A model that is not here: what is said of it, and how it could come."""

from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.absent import NotHere
from hal0.models.records import ModelRecord
from hal0.models.registry import Registry
from hal0.vocab import Capability, ModelId


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "models", (), tmp_path / "registry.toml")
    made.scan()
    return made


def test_the_catalogs_is_known_by_every_spelling_of_its_id(registry: Registry) -> None:
    with pytest.raises(NotHere, match=r"it is not downloaded \(2\.5 GB\)$") as caught:
        registry.require("Qwen3-4B:Q4_K_M")
    err = caught.value
    assert (err.code, err.hint) == ("model.not_downloaded", "hal0ctl pull qwen3-4b-q4_k_m")
    assert err.details == {"model": "qwen3-4b-q4_k_m", "size_bytes": 2_497_280_256, "license": "apache-2.0"}
    assert err.sentence == "qwen3-4b-q4_k_m is not downloaded, 2.5 GB"
    assert err.wanted is not None
    assert Capability.CHAT in err.wanted.capabilities
    assert err.wanted.cache_bytes_per_token == 36 * 8 * 128 * 2 * 2


def _remembered(registry: Registry, source: dict[str, str] | None) -> NotHere:
    registry.remember(ModelRecord(id=ModelId("mine"), files=("mine.gguf",), size_bytes=5 * 10**9, source=source))
    with pytest.raises(NotHere) as caught:
        registry.require("mine")
    return caught.value


def test_one_that_was_fetched_can_be_fetched_again(registry: Registry) -> None:
    err = _remembered(registry, {"repo": "acme/mine"})
    assert err.wanted is not None
    assert (err.sentence, err.wanted.capabilities) == ("mine is not downloaded, 5.0 GB", frozenset())


def test_one_that_was_brought_by_hand_is_brought_again(registry: Registry) -> None:
    err = _remembered(registry, None)
    assert err.wanted is None
    assert err.sentence == err.message == (
        "cannot use the model 'mine': it is not downloaded (5.0 GB); put its file into the models folder"
    )  # fmt: skip


def test_what_nobody_knows_is_not_found(registry: Registry) -> None:
    with pytest.raises(Hal0Error) as caught:
        registry.require("nothing-i-know")
    assert caught.value.code == "model.not_found"


def test_of_two_that_came_from_one_place_none_is_taken_for_the_other(registry: Registry) -> None:
    """Nor is the catalog's, which comes from there as well."""
    for quantisation in ("q8_0", "q5_k_m"):
        model, source = ModelId(f"qwen3-4b-{quantisation}"), {"repo": "Qwen/Qwen3-4B-GGUF"}
        registry.remember(ModelRecord(id=model, files=(f"{model}.gguf",), source=source))
    with pytest.raises(Hal0Error, match="qwen3-4b-q5_k_m and qwen3-4b-q8_0 come from there; name one") as caught:
        registry.require("Qwen/Qwen3-4B-GGUF")
    assert caught.value.code == "model.not_found"
    with pytest.raises(NotHere) as away:
        registry.require("Qwen/Qwen3-4B-GGUF:Q8_0")
    assert away.value.details["model"] == "qwen3-4b-q8_0"


def test_the_one_that_is_here_is_meant(registry: Registry) -> None:
    for model in ("tiny-q8_0", "gone-q8_0"):
        registry.remember(ModelRecord(id=ModelId(model), files=(f"{model}.gguf",), source={"repo": "acme/tiny"}))
    registry.store.mkdir()
    demo.write(registry.store / "tiny-q8_0.gguf")
    registry.scan()
    assert registry.require("acme/tiny").id == "tiny-q8_0"


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ("Qwen/Qwen3-4B-GGUF:Q4_K_M", "qwen3-4b-q4_k_m"),
        ("qwen/qwen3-4b-gguf", "qwen3-4b-q4_k_m"),
        (" acme/Mine ", "mine"),
        ("acme/mine:Q8_0", None),  # another quantisation than the one that came
        ("nobody/knows", None),
    ],
)
def test_a_place_on_the_hub_is_the_one_model_that_comes_from_there(
    registry: Registry, place: str, model: str | None
) -> None:
    _remembered(registry, {"repo": "acme/mine"})
    with pytest.raises(Hal0Error) as caught:
        registry.require(place)
    err = caught.value
    assert (err.code, err.details["model"]) == ("model.not_downloaded", model or place)
    assert err.hint == f"hal0ctl pull {model or place}"
