"""registry.toml: kept as people and other parts of hal0 left it, migrated from old, refused from new."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hal0.config.defaults import ModelDefaults
from hal0.errors import Hal0Error
from hal0.models.binding import Binding
from hal0.models.records import ModelRecord, RecordFile
from hal0.vocab import ModelId

STORE = Path("/var/lib/hal0/models")
RECORD = ModelRecord(
    id=ModelId("qwen3-4b-q4_k_m"),
    files=("qwen3-4b-q4_k_m.gguf",),
    size_bytes=2_497_280_256,
    sha256="ab" * 32,
    license="apache-2.0",
    source={"repo": "someone/model", "file": "x.gguf", "revision": "main"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "registry.toml"


def test_what_is_put_is_loaded(path: Path) -> None:
    RecordFile(path, STORE).put(RECORD)

    assert RecordFile(path, STORE).load().records == {RECORD.id: RECORD}
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_file_is_no_records(path: Path) -> None:
    assert RecordFile(path, STORE).load().records == {}


def test_ids_with_dots_stay_one_key(path: Path) -> None:
    record = RECORD.model_copy(update={"id": "qwen3.5-9b"})

    RecordFile(path, STORE).put(record)

    assert list(RecordFile(path, STORE).load().records) == ["qwen3.5-9b"]


def test_edits_leave_comments_and_foreign_tables_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(
        'schema = 1  # do not touch\n\n[aliases]\nfast = "m"\n\n[models.m]\n# by hand\n'
        'files = ["m.gguf"]\nsize_bytes = 5\nnew_key = 1\n'
    )
    file = RecordFile(path, STORE)

    file.put(ModelRecord(id=ModelId("m"), files=("m2.gguf",)))
    file.put(RECORD)
    file.drop("models", RECORD.id)

    text = path.read_text()
    assert "# do not touch" in text
    assert "# by hand" in text
    assert 'fast = "m"' in text
    assert "new_key = 1" in text
    assert "size_bytes" not in text  # no longer known
    assert file.load().records == {"m": ModelRecord(id=ModelId("m"), files=("m2.gguf",))}


def test_defaults_are_kept_beside_the_rest_and_dropped(path: Path) -> None:
    file, model = RecordFile(path, STORE), ModelId("qwen3.5-9b")
    defaults = ModelDefaults(
        context_size=4096, extra_args="--mlock", request_defaults={"stop": ["a"], "deep": {"b": 1}}
    )
    file.alias(ModelId("fast"), model)
    file.default(model, defaults)
    file.default(ModelId("llama3.2:3b"), ModelDefaults(parallel=2))  # an engine's own name
    assert file.load().defaults == {model: defaults, "llama3.2:3b": ModelDefaults(parallel=2)}
    assert file.load().aliases == {"fast": model}
    file.default(model, ModelDefaults(parallel=1))
    assert file.load().defaults[model] == ModelDefaults(parallel=1)
    file.drop("defaults", model)
    assert list(file.load().defaults) == ["llama3.2:3b"]


@pytest.mark.parametrize("line", ["context_size = 1", "color = 1", "request_defaults = 1"])
def test_defaults_that_cannot_be_understood_are_named_and_left_alone(path: Path, line: str) -> None:
    path.parent.mkdir()
    path.write_text(f"schema = 1\n[defaults.m]\n{line}\n")
    for use in (RecordFile(path, STORE).load, lambda: RecordFile(path, STORE).put(RECORD)):
        with pytest.raises(Hal0Error, match=r"registry.toml: defaults\.m\.") as caught:
            use()
        assert caught.value.code == "config.invalid"
    assert path.read_text().endswith(f"{line}\n")


def test_forgetting_the_unknown_writes_nothing(path: Path) -> None:
    RecordFile(path, STORE).drop("models", ModelId("x"))

    assert not path.exists()


def test_newer_is_refused_by_name_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("schema = 2\n")

    with pytest.raises(Hal0Error) as caught:
        RecordFile(path, STORE).put(RECORD)

    assert caught.value.code == "state.newer"
    assert str(path) in caught.value.message
    assert path.read_text() == "schema = 2\n"


@pytest.mark.parametrize("style", ["[models.Qwen3-4B]\n", '[[models]]\nid = "Qwen3-4B"\n'])
def test_files_from_before_the_schema_number_are_migrated(path: Path, style: str) -> None:
    path.parent.mkdir()
    path.write_text(
        f'{style}path = "{STORE}/chat/q.gguf"\nsize_bytes = 7\nlicense = "mit"\nhf_repo = "a/b"\n'
        f'hf_filename = "q.gguf"\nmetadata = {{ sha256 = "{"0" * 64}" }}\n'
    )
    file = RecordFile(path, STORE)
    migrated = ModelRecord(
        id=ModelId("qwen3-4b"),
        files=("chat/q.gguf",),
        size_bytes=7,
        license="mit",
        sha256="0" * 64,
        source={"repo": "a/b", "file": "q.gguf"},
    )

    assert file.load().records == {"qwen3-4b": migrated}
    file.put(RECORD)
    assert path.read_text().startswith("schema = 1\n")
    assert file.load().records == {"qwen3-4b": migrated, RECORD.id: RECORD}


def test_old_models_outside_the_store_are_left_to_the_scan(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('[models.m]\npath = "/elsewhere/m.gguf"\n')

    assert RecordFile(path, STORE).load().records == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema = [", "line 1"),
        ('schema = "1"', "its schema is '1'"),
        ("schema = 1\nmodels = 3", "`models` is not a table"),
        ("schema = 1\nmodels.m = 3", "models.m"),
        ("schema = 1\n[models.m]", "models.m.files"),
        ('schema = 1\n[models.m]\nfiles = ["../x"]', "does not stay below the store"),
        ('schema = 1\n[models.m]\nfiles = ["/etc/x"]', "does not stay below the store"),
        ('schema = 1\n[models.Mixed]\nfiles = ["x"]', "models.Mixed.id"),
        ('schema = 1\n[models."M/.."]\nfiles = ["x"]', "models.M/...id"),
        ('schema = 1\n[models.m]\nfiles = ["x"]\nsize_bytes = -1', "models.m.size_bytes"),
        ('schema = 1\n[aliases]\nx = "No"', "aliases.x"),
        ("schema = 1\n[bindings.x]", "exactly one of slot and upstream"),
        ('schema = 1\n[bindings]\nx = "primary"', "bindings.x"),
    ],
)
def test_what_cannot_be_understood_is_named(path: Path, text: str, words: str) -> None:
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(Hal0Error) as caught:
        RecordFile(path, STORE).load()

    assert caught.value.code == "config.invalid"
    assert caught.value.message.startswith(f"cannot read {path}: ")
    assert words in caught.value.message


@pytest.mark.parametrize("damage", ["models = 3", "models.m = 3", 'models = ["m"]', "aliases = 3", "bindings = [1]"])
def test_what_was_damaged_by_hand_is_not_written_over(path: Path, damage: str) -> None:
    path.parent.mkdir()
    path.write_text(f"schema = 1\n{damage}\n")
    file = RecordFile(path, STORE)
    edits: list[Callable[[], None]] = [
        lambda: file.put(RECORD.model_copy(update={"id": "m"})),
        lambda: file.alias(ModelId("fast"), ModelId("m")),
        lambda: file.bind(ModelId("m"), Binding(slot="primary")),
        lambda: file.drop("models", ModelId("m")),
    ]
    for edit in edits:
        with pytest.raises(Hal0Error) as caught:
            edit()
        assert caught.value.code == "config.invalid"
    assert path.read_text() == f"schema = 1\n{damage}\n"


def test_a_file_that_cannot_be_written_is_a_typed_error() -> None:
    path = Path("/proc/hal0/registry.toml")  # nobody can make a directory there, root included

    with pytest.raises(Hal0Error) as caught:
        RecordFile(path, STORE).put(RECORD)

    assert caught.value.code == "state.write_failed"
    assert str(path) in caught.value.message
