"""The registry over real files: what is found, what wins, what is refused and in which words."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hal0.config.defaults import ModelDefaults
from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.binding import Binding
from hal0.models.records import ModelRecord
from hal0.models.registry import Registry
from hal0.vocab import Capability, ModelId
from tests.tiny import gguf_models


@dataclass
class Place:
    store: Path
    root: Path
    registry: Registry

    def ids(self) -> list[str]:
        self.registry.scan()
        return [entry.id for entry in self.registry.entries()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    store, root = tmp_path / "store", tmp_path / "root"
    store.mkdir()
    root.mkdir()
    return Place(store, root, Registry(store, (root,), tmp_path / "registry.toml"))


def refusal(registry: Registry, name: str) -> Hal0Error:
    with pytest.raises(Hal0Error) as caught:
        registry.require(name)
    return caught.value


def test_finds_models_below_all_roots(place: Place) -> None:
    gguf_models.write_chat(place.store / "A.gguf")
    (place.root / "deep" / "er").mkdir(parents=True)
    gguf_models.write_embed(place.root / "deep" / "er" / "b.gguf")
    (place.root / ".hidden").mkdir()
    gguf_models.write_embed(place.root / ".hidden" / "c.gguf")
    gguf_models.write_embed(place.root / ".part.gguf")

    assert place.ids() == ["a", "b"]
    entry = place.registry.require("a")
    assert entry.files == (place.store / "A.gguf",)
    assert entry.size_bytes == (place.store / "A.gguf").stat().st_size
    assert entry.context_length == 4096


def test_roots_that_are_not_there_are_empty(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "no", (tmp_path / "neither",), tmp_path / "registry.toml")

    registry.scan()

    assert registry.entries() == ()


def test_a_root_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    registry = Registry(tmp_path / "no", (tmp_path / "gone", tmp_path / "file", tmp_path), tmp_path / "registry.toml")

    registry.scan()

    assert [(it.path.name, it.message.rpartition(": ")[2]) for it in registry.problems()] == [
        ("gone", "No such file or directory"),
        ("file", "Not a directory"),
    ]


def test_the_demo_says_so(place: Place) -> None:
    demo.write(place.store / f"{demo.DEMO_MODEL_ID}.gguf")
    place.registry.scan()

    assert place.registry.require(demo.DEMO_MODEL_ID).demo


@pytest.mark.parametrize("name", ["Tiny.GGUF", "tiny", "TINY", " tiny ", "tiny:F16", "Tiny:f16"])
def test_spellings_fold_to_the_id(place: Place, name: str) -> None:
    gguf_models.write_chat(place.store / "tiny.gguf")
    place.registry.scan()

    assert place.registry.fold(name) == "tiny"
    assert place.registry.get(name) is not None


def test_name_and_quantisation_fold_to_one_id(place: Place) -> None:
    gguf_models.write_chat(place.store / "tiny-F16.gguf")
    place.registry.scan()

    assert place.registry.fold("Tiny:F16") == "tiny-f16"
    assert place.registry.get("tiny:q8_0") is None


@pytest.mark.parametrize("name", ["", ":", "///", "\u6a21"])
def test_names_without_a_legal_character_are_not_found(place: Place, name: str) -> None:
    assert refusal(place.registry, name).code == "model.not_found"


def test_the_store_wins_over_roots_and_the_loser_is_named(place: Place) -> None:
    gguf_models.write_chat(place.root / "m.gguf")
    gguf_models.write_chat(place.store / "M.gguf", seed=2)
    place.registry.scan()

    assert place.registry.require("m").files == (place.store / "M.gguf",)
    (problem,) = place.registry.problems()
    assert (problem.code, problem.path) == ("model.exists", place.root / "m.gguf")
    assert str(place.store / "M.gguf") in problem.message


def test_one_file_shown_twice_is_one_model(place: Place) -> None:
    gguf_models.write_chat(place.store / "m.gguf")
    (place.root / "m.gguf").symlink_to(place.store / "m.gguf")

    assert place.ids() == ["m"]
    assert place.registry.problems() == ()


@pytest.mark.parametrize(
    ("write", "code", "words"),
    [
        (gguf_models.write_truncated, "model.checksum", "truncated"),
        (gguf_models.write_junk, "model.checksum", "not a GGUF file"),
        (gguf_models.write_empty, "model.checksum", "empty"),
        (gguf_models.write_version, "model.checksum", "version 99"),
    ],
)
def test_spoilt_files_are_refused_with_the_reason(
    place: Place, write: Callable[[Path], Path], code: str, words: str
) -> None:
    path = write(place.store / "m.gguf")

    assert place.ids() == []
    error = refusal(place.registry, "m")
    assert error.code == code
    assert words in error.message
    assert error.details == {"model": "m", "file": str(path)}


def test_missing_parts_are_not_downloaded(place: Place) -> None:
    gguf_models.write_chat(place.store / "big-00001-of-00002.gguf")
    place.registry.scan()

    error = refusal(place.registry, "big")

    assert error.code == "model.not_downloaded"
    assert "big-00002-of-00002.gguf" in error.message


def test_a_lone_later_part_is_reported_once(place: Place) -> None:
    for n in (2, 3):
        gguf_models.write_chat(place.store / f"big-{n:05}-of-00003.gguf")
    place.registry.scan()

    (problem,) = place.registry.problems()
    assert (problem.id, problem.code) == ("big", "model.not_downloaded")


def test_unknown_ids_get_a_suggestion(place: Place) -> None:
    gguf_models.write_chat(place.store / "qwen3-4b-q4_k_m.gguf")
    place.registry.scan()

    error = refusal(place.registry, "qwen3-4b-q4_k_s")

    assert error.code == "model.not_found"
    assert "did you mean qwen3-4b-q4_k_m?" in error.message
    assert error.details["did_you_mean"] == ["qwen3-4b-q4_k_m"]


def test_remembered_but_absent_is_not_downloaded_with_its_size(place: Place) -> None:
    place.registry.remember(ModelRecord(id=ModelId("big"), files=("big.gguf",), size_bytes=2_497_280_256))

    error = refusal(place.registry, "big")

    assert error.code == "model.not_downloaded"
    assert "2.5 GB" in error.message
    assert "models folder" in error.message
    assert place.registry.get("big") is None
    assert [record.id for record in place.registry.records()] == ["big"]


def test_a_record_names_its_file_and_adds_what_the_file_does_not_say(place: Place) -> None:
    gguf_models.write_chat(place.store / "x.gguf")
    source = {"repo": "someone/model"}

    place.registry.remember(ModelRecord(id=ModelId("m"), files=("x.gguf",), license="mit", source=source))

    entry = place.registry.require("m")
    assert (entry.license, entry.source) == ("mit", source)
    assert place.registry.get("x") is None
    place.registry.forget(ModelId("m"))
    assert place.registry.require("x").source is None


def test_version_grows_with_every_change_and_only_then(place: Place) -> None:
    registry = place.registry
    versions = [registry.version]

    def look() -> int:
        registry.scan()
        versions.append(registry.version)
        return versions[-1] - versions[-2]

    assert look() == 0
    path = gguf_models.write_chat(place.store / "m.gguf")
    assert look() == 1
    assert look() == 0
    gguf_models.write_chat(path, layers=3)
    assert look() == 1
    path.unlink()
    assert look() == 1


def test_files_of_unchanged_size_and_time_are_not_read_again(place: Place) -> None:
    path = gguf_models.write_chat(place.store / "m.gguf")
    place.registry.scan()
    before = path.stat()
    path.write_bytes(bytes(before.st_size))  # what a second reading would refuse
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert place.ids() == ["m"]

    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert place.ids() == []


def test_a_lone_projector_belongs_to_the_chat_model_beside_it(place: Place) -> None:
    gguf_models.write_chat(place.store / "m-f16.gguf")
    gguf_models.write_chat(place.store / "m-q8_0.gguf", dtype="q8_0")  # the same model again
    gguf_models.write_embed(place.store / "e.gguf")
    projector = gguf_models.write_mmproj(place.store / "mmproj.gguf")
    (place.store / "sub").mkdir()
    gguf_models.write_chat(place.store / "sub" / "far.gguf")

    assert place.ids() == ["e", "far", "m-f16", "m-q8_0"]
    assert place.registry.require("m-f16").mmproj == projector
    assert Capability.VISION in place.registry.require("m-q8_0").capabilities
    assert place.registry.require("far").mmproj is None
    assert place.registry.require("e").mmproj is None


@pytest.mark.parametrize("case", ["two projectors", "two models", "wrong size"])
def test_a_projector_is_never_guessed(place: Place, case: str) -> None:
    gguf_models.write_chat(place.store / "m.gguf")
    gguf_models.write_mmproj(place.store / "p.gguf", dim=96 if case == "wrong size" else 64)
    if case == "two projectors":
        gguf_models.write_mmproj(place.store / "q.gguf")
    if case == "two models":
        gguf_models.write_chat(place.store / "n.gguf", layers=3)

    place.registry.scan()

    assert place.registry.require("m").mmproj is None


def test_an_unusable_registry_file_stops_the_scan_and_keeps_what_was_known(place: Place, tmp_path: Path) -> None:
    gguf_models.write_chat(place.store / "m.gguf")
    place.registry.scan()
    (tmp_path / "registry.toml").write_text("schema = 99")

    with pytest.raises(Hal0Error, match="upgrade hal0"):
        place.registry.scan()

    assert place.registry.get("m") is not None


# ---- names that an operator gives ----


def test_an_alias_is_another_spelling_and_never_hides_a_model(place: Place) -> None:
    for name in ("a", "b"):
        gguf_models.write_chat(place.store / f"{name}.gguf")
    place.ids()
    before = place.registry.version

    place.registry.alias("fast", "A.gguf")
    place.registry.alias("later", "b")
    place.registry.alias("later", "a")

    assert place.registry.require("FAST").id == "a"
    assert place.registry.version > before
    assert place.registry.aliases() == {"fast": "a", "later": "a"}
    gguf_models.write_embed(place.store / "fast.gguf")
    place.ids()
    assert place.registry.require("fast").id == "fast"


def test_an_alias_is_taken_away(place: Place) -> None:
    gguf_models.write_chat(place.store / "a.gguf")
    place.ids()
    place.registry.alias("fast", "a")

    place.registry.alias("fast", None)

    assert refusal(place.registry, "fast").code == "model.not_found"


@pytest.mark.parametrize(
    ("alias", "model", "code"),
    [
        ("b", "a", "model.exists"),
        ("x", "nothing", "model.not_found"),
        ("Not An Id", "a", "request.invalid"),
        ("", "a", "request.invalid"),
    ],
)
def test_an_alias_that_cannot_be_is_refused_and_changes_nothing(
    place: Place, alias: str, model: str, code: str
) -> None:
    for name in ("a", "b"):
        gguf_models.write_chat(place.store / f"{name}.gguf")
    place.ids()

    with pytest.raises(Hal0Error) as caught:
        place.registry.alias(alias, model)

    assert caught.value.code == code
    assert place.registry.aliases() == {}


def test_bindings_are_for_models_known_here_or_not_and_survive_a_restart(place: Place, tmp_path: Path) -> None:
    place.registry.bind("far", Binding(upstream="box", model="Far-235B"))
    place.registry.bind("near", Binding(slot="primary"))
    place.registry.bind("gone", Binding(slot="primary"))
    place.registry.bind("gone", None)

    again = Registry(place.store, (), tmp_path / "registry.toml")
    again.scan()

    assert again.bindings() == {"far": Binding(upstream="box", model="Far-235B"), "near": Binding(slot="primary")}


# ---- what a model is started and asked with ----


def test_defaults_are_changed_field_by_field_and_survive_a_restart(place: Place, tmp_path: Path) -> None:
    gguf_models.write_chat(place.root / "A.gguf")  # not hal0's own: there is no record of it
    checked: list[ModelDefaults] = []

    def change(**fields: object) -> ModelDefaults | None:
        place.registry.default("A.gguf", fields, lambda _entry, defaults: checked.append(defaults))
        return place.registry.require("a").defaults

    place.registry.scan()
    before = place.registry.version
    assert change(context_size=4096, request_defaults={"top_k": 1}) == checked[0]
    assert place.registry.version > before
    assert change(context_size=None, extra_args="--mlock -fa on") == ModelDefaults(
        extra_args=("--mlock", "-fa", "on"), request_defaults={"top_k": 1}
    )
    again = Registry(place.store, (place.root,), tmp_path / "registry.toml")
    again.scan()
    assert again.require("a").defaults == checked[1]
    assert change(extra_args=None, request_defaults=None) is None
    assert "defaults.a" not in (tmp_path / "registry.toml").read_text()


def test_defaults_go_with_their_model(place: Place, tmp_path: Path) -> None:
    gguf_models.write_chat(place.store / "a.gguf")
    place.registry.scan()
    place.registry.default("a", {"parallel": 2}, lambda _entry, _defaults: None)
    place.registry.delete("a")
    assert "parallel" not in (tmp_path / "registry.toml").read_text()


def _refuse(_entry: object, _defaults: object) -> None:
    raise Hal0Error("config.invalid", "cannot")


@pytest.mark.parametrize(
    ("model", "fields", "check", "code", "param"),
    [
        ("a", {"context_size": 1, "color": 2}, None, "config.invalid", "context_size"),
        ("a", {"request_defaults": {"x": [{"y": None}]}}, None, "config.invalid", "request_defaults"),
        ("a", {"extra_args": 7}, None, "config.invalid", "extra_args"),
        ("a", {"parallel": 2}, _refuse, "config.invalid", None),
        ("nobody", {"parallel": 2}, None, "model.not_found", "model"),
    ],
)
def test_defaults_that_cannot_be_change_nothing(
    place: Place, model: str, fields: dict[str, object], check: object, code: str, param: str | None, tmp_path: Path
) -> None:
    gguf_models.write_chat(place.store / "a.gguf")
    place.registry.scan()
    with pytest.raises(Hal0Error) as caught:
        place.registry.default(model, fields, check or (lambda _entry, _defaults: None))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == (code, param)
    assert not (tmp_path / "registry.toml").exists()
