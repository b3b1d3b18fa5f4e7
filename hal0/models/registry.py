"""Which models are known, by id: those on disk, those remembered but not there, and the words for those unknown."""

import difflib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from hal0.config.defaults import ModelDefaults, changed
from hal0.errors import Hal0Error
from hal0.models import catalog
from hal0.models.absent import NotHere, of_catalog, of_record
from hal0.models.binding import Binding
from hal0.models.entry import ModelEntry, able_to, legal_id
from hal0.models.examine import Problem
from hal0.models.records import ModelRecord, RecordFile, Remembered
from hal0.models.removal import remove
from hal0.models.scan import Found, Scanner
from hal0.models.tags import Tag, tagged
from hal0.vocab import HUB_PLACE, ModelId

_SUGGESTIONS: Final = 3


@dataclass(frozen=True, slots=True)
class _Known:
    """One consistent view; replaced as a whole, so readers on the event loop need no lock."""

    entries: Mapping[ModelId, ModelEntry]
    records: Mapping[ModelId, ModelRecord]
    aliases: Mapping[ModelId, ModelId]
    bindings: Mapping[ModelId, Binding]
    problems: tuple[Problem, ...]


class Registry:
    """Look-ups answer from memory; `scan`, `remember` and `forget` block and belong in a thread."""

    def __init__(
        self, store: Path, roots: tuple[Path, ...], registry_file: Path, *, allow_pickle: bool = False
    ) -> None:
        """`store` is where hal0 writes models, `roots` are more directories, read only; earlier ones win."""
        self._store = store
        self._scanner = Scanner(store, roots, allow_pickle=allow_pickle)
        self._file = RecordFile(registry_file, store)
        nothing: Mapping[ModelId, Any] = MappingProxyType({})
        self._roots = (store, *roots)
        self._tags: Mapping[str, Tag] = MappingProxyType({})
        self._known = _Known(nothing, nothing, nothing, nothing, ())
        self._version = 0
        self._writing = threading.Lock()

    @property
    def store(self) -> Path:
        return self._store

    @property
    def version(self) -> int:
        """Grows whenever a look-up may give another answer than before."""
        return self._version

    def entries(self) -> tuple[ModelEntry, ...]:
        """Every model that can be loaded, by id."""
        return tuple(self._known.entries.values())

    def records(self) -> tuple[ModelRecord, ...]:
        """Every model that is remembered, on disk or not, by id."""
        return tuple(self._known.records.values())

    def aliases(self) -> Mapping[ModelId, ModelId]:
        """Other names of models, as an operator gave them; a model's own id comes before them."""
        return self._known.aliases

    def bindings(self) -> Mapping[ModelId, Binding]:
        """Models for which an operator said who answers, whether they are known here or not."""
        return self._known.bindings

    def problems(self) -> tuple[Problem, ...]:
        """Files that look like models and cannot be used, and why."""
        return self._known.problems

    def get(self, name: str) -> ModelEntry | None:
        """The model of this id (or of a spelling that folds to it), when it can be loaded."""
        return self._known.entries.get(self.fold(name))

    def require(self, name: str) -> ModelEntry:
        """As `get`; else Hal0Error: what is wrong with its file, NotHere, or model.not_found."""
        known, model = self._known, self._from_hub(name) or self.fold(name)
        if (here := known.entries.get(model)) is not None:
            return here
        for problem in known.problems:
            if problem.id == model:
                raise Hal0Error(problem.code, problem.message, details={"model": model, "file": str(problem.path)})
        if (entry := catalog.find(model)) is not None:
            raise NotHere(model, entry.size_bytes, of_catalog(entry))
        if (record := known.records.get(model)) is not None:
            raise NotHere(record.id, record.size_bytes, of_record(record))
        if (tag := self._tags.get(model)) is not None:
            raise NotHere(model, tag.size_bytes)
        if HUB_PLACE.match(name.strip()):
            message = f"cannot use {name[:200]!r}: it is a place on the hub, and no one model that is known here"
            raise Hal0Error(
                "model.not_downloaded",
                f"{message}; fetch it, then use the id that it has here",
                details={"model": name[:200], "size_bytes": None},
                hint=f"hal0ctl pull {name[:200].strip()}",
                param="model",
            )
        raise _not_found(name, model, (*known.entries, *known.records))

    def fold(self, name: str) -> ModelId:
        """The id that a spelling means: case, `.gguf`, `name:QUANT`, an alias. What folds to no known id comes back
        legal."""
        entries = self._known.entries
        if name in self._tags:  # its engine's own word
            return ModelId(name)
        plain = re.sub(r"\.gguf\Z", "", name.strip(), flags=re.IGNORECASE)
        model = legal_id(plain) or ModelId("")
        if model not in entries:
            # `name:QUANT` of a file that is called just `name`
            base, _, quantisation = plain.rpartition(":")
            bare = entries.get(legal_id(base) or ModelId(""))
            if bare is not None and (bare.quantisation or "").lower() == quantisation.lower():
                return bare.id
        return self._known.aliases.get(model, model) if model not in entries else model

    def _from_hub(self, name: str) -> ModelId | None:
        """The one model that comes from this place on the hub: of those here, else that were, else the catalog's.

        None where there is none. Raises model.not_found where it may be one of several.
        """
        if (place := HUB_PLACE.match(name.strip())) is None:
            return None
        repo, quantisation = place["repo"].lower(), (place["quantisation"] or "").lower()
        came = {it.id: (it.source or {}).get("repo", "") for it in self._known.records.values()}
        here = {model: repo for model, repo in came.items() if model in self._known.entries}
        could = {it.id: it.repo or "" for it in catalog.entries()}
        for known in (here, came, could):
            found = [model for model, of in known.items() if of.lower() == repo and model.endswith(quantisation)]
            if len(found) > 1:
                message = f"cannot tell which model {name[:200]!r} means: {' and '.join(sorted(found))} come from there"
                raise Hal0Error("model.not_found", f"{message}; name one of them", param="model")
            if found:
                return found[0]
        return None

    def scan(self) -> None:
        """Read the directories and registry.toml again. Raises Hal0Error when registry.toml cannot be used."""
        with self._writing:
            self._refresh()

    def know_tags(self, tags: Iterable[Tag]) -> None:
        """Models that an engine knows by names of its own, and look again. Raises Hal0Error as `scan` does."""
        with self._writing:
            self._tags = MappingProxyType({tag.name: tag for tag in tags})
            self._version += 1
            self._refresh()

    def remember(self, record: ModelRecord) -> None:
        """Write a record, and look again. Raises Hal0Error as `scan` does, or state.write_failed."""
        with self._writing:
            self._file.put(record)
            self._refresh()

    def forget(self, model: ModelId) -> None:
        """Drop a record, and look again; the model's files stay. Raises as `remember` does."""
        with self._writing:
            self._file.drop("models", model)
            self._refresh()

    def delete(self, model: str) -> int:
        """Take a model and what is remembered of it off the disk; the bytes that are free now. Raises as `require`
        does, model.read_only, or state.write_failed."""
        with self._writing:
            self._refresh()
            entry = self.require(model)
            others = [other for other in self._known.entries.values() if other.id != entry.id]
            freed = remove(entry, self._store, others)
            self._file.drop("models", entry.id)
            self._file.drop("defaults", entry.id)
            self._refresh()
        return freed

    def alias(self, name: str, model: str | None) -> None:
        """Give a model one more name; None takes the name away. Raises request.invalid, model.exists, model.not_found,
        or as `remember` does."""
        alias = legal_id(name)
        if alias is None or alias != name:
            raise Hal0Error("request.invalid", f"cannot use the alias {name[:200]!r}: it is no model id", param="alias")
        with self._writing:
            self._refresh()
            if model is None:
                self._file.drop("aliases", alias)
            else:
                if alias in self._known.entries or alias in self._known.records:
                    raise Hal0Error("model.exists", f"cannot use the alias {alias}: a model has this id")
                self._file.alias(alias, self._known_id(model))
            self._refresh()

    def bind(self, model: str, binding: Binding | None) -> None:
        """Say who answers for a model; None leaves it to the rules again. Raises as `alias` does."""
        bound = self.fold(model)
        if not bound:
            raise Hal0Error("request.invalid", f"cannot bind {model[:200]!r}: it is no model id", param="model")
        with self._writing:
            if binding is None:
                self._file.drop("bindings", bound)
            else:
                self._file.bind(bound, binding)
            self._refresh()

    def default(
        self, model: str, changes: Mapping[str, Any], check: Callable[[ModelEntry, ModelDefaults], None]
    ) -> None:
        """Change what a model that is here is started and asked with where nobody else says it; None takes a field
        away. `check` raises what its engine refuses. Raises config.invalid, as `require`, or as `remember` does."""
        with self._writing:
            self._refresh()
            entry = self.require(model)
            defaults = changed(entry.id, entry.defaults, changes)
            check(entry, defaults)
            if defaults.said():
                self._file.default(entry.id, defaults)
            else:
                self._file.drop("defaults", entry.id)
            self._refresh()

    def _known_id(self, name: str) -> ModelId:
        """Of a model on disk or remembered. Raises model.not_found."""
        known, model = self._known, self.fold(name)
        if model not in known.entries and model not in known.records:
            raise _not_found(name, model, (*known.entries, *known.records))
        return model

    def _refresh(self) -> None:
        catalog.entries()  # read from the disk here, so that look-ups need not
        remembered = self._file.load()
        records = remembered.records
        by_tag = tagged(self._tags.values(), self._roots)
        known = _combine(self._scanner.find(_names(self._store, records)), by_tag, remembered)
        if known != self._known:
            self._known = known
            self._version += 1


def _names(store: Path, records: Mapping[ModelId, ModelRecord]) -> dict[Path, ModelId]:
    """The records' ids by first file, and by the folder below the store that it is in: that may be the model."""
    names = {}
    for record in records.values():
        first = store / record.files[0]
        names[first] = record.id
        if first.parent != store:
            names.setdefault(first.parent, record.id)
    return names


def _combine(found: Found, by_tag: Mapping[ModelId, ModelEntry], remembered: Remembered) -> _Known:
    entries, records = dict(by_tag), remembered.records
    folders = {entry.files[0].parent for entry in by_tag.values()}
    for model in sorted(found.entries):
        entry, record = found.entries[model], records.get(model)
        if entry.directory in folders:  # its engine's name is the one that means something
            continue
        if record is not None:
            licence = record.license or entry.license
            can = able_to(entry, record.task) if record.task is not None else None  # its file may be another one by now
            entry = replace(entry, capabilities=can or entry.capabilities)
            entry = replace(entry, source=record.source, license=licence, sha256=record.sha256)
        entries[model] = entry
    for model in remembered.defaults.keys() & entries.keys():
        entries[model] = replace(entries[model], defaults=remembered.defaults[model])
    by_id = {model: records[model] for model in sorted(records)}
    return _Known(
        entries=MappingProxyType(entries),
        records=MappingProxyType(by_id),
        aliases=MappingProxyType(dict(remembered.aliases)),
        bindings=MappingProxyType(dict(remembered.bindings)),
        problems=found.problems,
    )


def _not_found(name: str, model: ModelId, ids: tuple[ModelId, ...]) -> Hal0Error:
    near = difflib.get_close_matches(model, sorted(set(ids)), n=_SUGGESTIONS)
    advice = f"did you mean {' or '.join(near)}?" if near else "GET /v1/models lists what is there"
    return Hal0Error(
        "model.not_found",
        f"cannot find the model {name[:200]!r}; {advice}",
        details={"model": name[:200], "did_you_mean": near},
        param="model",
    )
