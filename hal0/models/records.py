"""registry.toml: what hal0 remembers of models beyond what their files say, whether the files are there or not.

    schema = 1
    [models."qwen3-4b-q4_k_m"]
    files = ["qwen3-4b-q4_k_m.gguf"]       # below the store
    size_bytes = 2497280256
    sha256 = "..."                         # of the first file
    digests = { "name" = "..." }           # of the others
    license = "apache-2.0"
    source = { repo = "...", file = "...", revision = "..." }
    [defaults."qwen3-4b-q4_k_m"]           # of any model, also one outside the store
    context_size = 16384
    [aliases]
    fast = "qwen3-4b-q4_k_m"
    [bindings]
    big = { upstream = "box", model = "qwen3-235b" }       # or { slot = "primary" }

Only the record at hand is rewritten: comments, order and tables of other parts of hal0 stay as they are. Blocking.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from tomlkit.exceptions import TOMLKitError

from hal0.config.defaults import ModelDefaults
from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic
from hal0.models.binding import Binding
from hal0.models.entry import legal_id
from hal0.vocab import MODEL_ID, Capability, ModelId

SCHEMA: Final = 1
_END: Final = r"\Z"  # pydantic's engine spells it $


Id = Annotated[ModelId, StringConstraints(pattern=f"^{MODEL_ID.pattern.removesuffix(_END)}$")]


Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class ModelRecord(BaseModel):
    """One remembered model. Keys that this version does not know are kept in the file and left out here."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    id: Id
    files: tuple[str, ...] = Field(min_length=1)  # below the store, the one to load first
    size_bytes: int | None = Field(None, ge=0)  # of all files
    sha256: Digest | None = None  # of the first file
    digests: dict[str, Digest] | None = None  # of other files, as far as they are known
    license: str | None = None
    source: dict[str, str] | None = None
    task: Capability | None = None  # what it is for, where an operator said so and its file does not

    @field_validator("files")
    @classmethod
    def _below_the_store(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for name in files:
            path = PurePosixPath(name)
            if not name or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name!r} does not stay below the store")
        return files


class _Bound(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    slot: str | None = None
    upstream: str | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _one_target(self) -> "_Bound":
        if (self.slot is None) == (self.upstream is None):
            raise ValueError("names not exactly one of slot and upstream")
        return self


class _Names(BaseModel):
    aliases: dict[Id, Id] = {}
    bindings: dict[Id, _Bound] = {}
    defaults: dict[ModelId, ModelDefaults] = {}  # an engine's own names among them


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything in the file."""

    records: Mapping[ModelId, ModelRecord]
    aliases: Mapping[ModelId, ModelId]
    bindings: Mapping[ModelId, Binding]
    defaults: Mapping[ModelId, ModelDefaults]


class RecordFile:
    """The file, read anew on every call: it may have been edited by hand."""

    def __init__(self, path: Path, store: Path) -> None:
        self._path = path
        self._store = store

    def load(self) -> Remembered:
        """Everything; nothing when there is no file.

        Raises Hal0Error state.newer for a file of a newer hal0, config.invalid for one that cannot be understood.
        """
        return self._understood(self._read().unwrap())

    def _understood(self, document: Mapping[str, Any]) -> Remembered:
        try:
            names = _Names.model_validate({key: document[key] for key in _Names.model_fields if key in document})
        except ValidationError as e:
            raise self._invalid(_first_fault(e)) from e
        bindings = {model: Binding(it.slot, it.upstream, it.model) for model, it in names.bindings.items()}
        return Remembered(self._records(document), names.aliases, bindings, names.defaults)

    def _records(self, document: Mapping[str, Any]) -> dict[ModelId, ModelRecord]:
        tables = document.get("models", {})
        if not isinstance(tables, dict):
            raise self._invalid("`models` is not a table")
        records = {}
        for key, table in tables.items():
            try:
                record = ModelRecord.model_validate({**table, "id": key} if isinstance(table, dict) else table)
            except ValidationError as e:
                raise self._invalid(_first_fault(e, "models", key)) from e
            records[record.id] = record
        return records

    def _edited(self) -> tomlkit.TOMLDocument:
        """What is in the file, as it may be edited. Raises as `load` does: what cannot be understood stays as it is."""
        document = self._read()
        self._understood(document.unwrap())
        return document

    def put(self, record: ModelRecord) -> None:
        """Write or replace one record. Raises Hal0Error as `load` does, and state.write_failed."""
        document = self._edited()
        tables = document.setdefault("models", tomlkit.table(is_super_table=True))
        table = tables.setdefault(record.id, tomlkit.table())
        for key, value in record.model_dump(mode="json", exclude={"id"}).items():
            if value is not None:
                table[key] = _inline(value) if isinstance(value, dict) else value
            elif key in table:
                del table[key]
        self._write(document)

    def alias(self, name: ModelId, model: ModelId) -> None:
        """Write or replace one alias. Raises as `put` does."""
        self._set("aliases", name, model)

    def bind(self, model: ModelId, binding: Binding) -> None:
        """Write or replace one binding. Raises as `put` does."""
        self._set("bindings", model, _inline({k: v for k, v in asdict(binding).items() if v is not None}))

    def default(self, model: ModelId, defaults: ModelDefaults) -> None:
        """Write or replace what one model is started and asked with. Raises as `put` does."""
        table = tomlkit.table()
        table.update(defaults.said())
        self._set("defaults", model, table)

    def drop(self, table: Literal["models", "aliases", "bindings", "defaults"], name: ModelId) -> None:
        """Forget one entry; one that is not there is as good as forgotten. Raises as `put` does."""
        document = self._edited()
        entries = document.get(table, {})
        if name in entries:
            del entries[name]
            self._write(document)

    def _set(self, table: str, name: ModelId, value: object) -> None:
        document = self._edited()
        document.setdefault(table, tomlkit.table(is_super_table=isinstance(value, tomlkit.items.Table)))[name] = value
        self._write(document)

    def _read(self) -> tomlkit.TOMLDocument:
        try:
            document = tomlkit.parse(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return _empty()
        except OSError as e:
            raise self._invalid(e.strerror or str(e)) from e
        except (TOMLKitError, UnicodeDecodeError) as e:
            raise self._invalid(str(e)) from e
        schema = document.get("schema", 0)
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 0:
            raise self._invalid(f"its schema is {schema!r}")
        if schema > SCHEMA:
            raise Hal0Error(
                "state.newer",
                f"cannot read {self._path}: it has schema {schema} and this hal0 knows {SCHEMA}; upgrade hal0",
                details={"file": str(self._path), "schema": int(schema), "known": SCHEMA},
            )
        return self._from_unnumbered(document) if schema == 0 else document

    def _from_unnumbered(self, old: tomlkit.TOMLDocument) -> tomlkit.TOMLDocument:
        """Schema 1 of a file from before the numbers: an absolute `path` per model, Hugging Face names beside it.

        A model outside the store needs no record: the scan of the roots finds it.
        """
        document = _empty()
        tables = tomlkit.table(is_super_table=True)
        for model, old_table in _unnumbered_models(old.unwrap()):
            path = Path(str(old_table.get("path", "")))
            if (name := legal_id(model)) is None or not path.is_relative_to(self._store):
                continue
            table = tomlkit.table()
            table["files"] = [path.relative_to(self._store).as_posix()]
            for key in ("size_bytes", "license"):
                if old_table.get(key):
                    table[key] = old_table[key]
            metadata = old_table.get("metadata")
            if isinstance(metadata, dict) and metadata.get("sha256"):
                table["sha256"] = metadata["sha256"]
            if old_table.get("hf_repo"):
                table["source"] = _inline({"repo": old_table["hf_repo"], "file": str(old_table.get("hf_filename", ""))})
            tables[name] = table
        document["models"] = tables
        return document

    def _write(self, document: tomlkit.TOMLDocument) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._path, tomlkit.dumps(document).encode())
        except OSError as e:
            raise Hal0Error(
                "state.write_failed",
                f"cannot write {self._path}: {e.strerror}; free space or mend its directory",
                details={"file": str(self._path)},
            ) from e

    def _invalid(self, why: str) -> Hal0Error:
        return Hal0Error(
            "config.invalid",
            f"cannot read {self._path}: {why}; mend it, or move it away to start without what it remembers",
            details={"file": str(self._path)},
        )


def _empty() -> tomlkit.TOMLDocument:
    document = tomlkit.document()
    document["schema"] = SCHEMA
    return document


def _unnumbered_models(old: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(id, table) of `[models.<id>]` tables or of a `[[models]]` list with ids."""
    models = old.get("models", {})
    if isinstance(models, list):
        return [(str(table.get("id", "")), table) for table in models if isinstance(table, dict)]
    return [(key, table) for key, table in models.items() if isinstance(table, dict)]


def _first_fault(error: ValidationError, *where: str) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, (*where, *fault['loc'])))}: {fault['msg']}"


def _inline(values: Mapping[str, str]) -> tomlkit.items.InlineTable:
    table = tomlkit.inline_table()
    table.update(values)
    return table
