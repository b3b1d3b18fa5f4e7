"""What is wrong with a configuration, in words a person can act on; translated once from pydantic's."""

import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hal0.errors import Hal0Error

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where it was said (`line` is None outside files), and what would be accepted."""

    file: str
    line: int | None
    key: str
    message: str
    allowed: str | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        said = f"{self.key}: {self.message}" if self.key else self.message  # a whole file at fault has no key
        return f"{where}: {said}" + (f" (allowed: {self.allowed})" if self.allowed else "")


def invalid(faults: Sequence[Fault]) -> Hal0Error:
    """`config.invalid` with every fault in `details.faults`; the message names the first."""
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Hal0Error(
        "config.invalid",
        f"cannot use the configuration: {faults[0]}{more}",
        param=faults[0].key,
        details={"faults": [asdict(fault) for fault in faults]},
    )


def refused(what: str, faults: Sequence[Fault]) -> Hal0Error:
    """`config.invalid` in a request's words, such as "create slot x": there is no file yet that they could stand in."""
    first = faults[0]
    where = f"{first.key}: " if first.key else ""
    allowed = f" (allowed: {first.allowed})" if first.allowed else ""
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Hal0Error(
        "config.invalid",
        f"cannot {what}: {where}{first.message}{allowed}{more}",
        param=first.key or None,
        details={"faults": [asdict(fault) for fault in faults]},
        hint="See the message for the field.",
    )


@dataclass(frozen=True, slots=True)
class Complaint:
    """A fault before anyone has looked where the value came from."""

    loc: Loc
    message: str
    allowed: str | None = None

    @property
    def key(self) -> str:
        return ".".join(str(part) for part in self.loc)


def complaints(error: ValidationError, root: type[BaseModel]) -> list[Complaint]:
    return [_complaint(detail, root) for detail in error.errors(include_url=False, include_input=False)]


_WANTED: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "path_type": "a path",
}
_RANGES: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
}


def _complaint(detail: ErrorDetails, root: type[BaseModel]) -> Complaint:
    kind, context = detail["type"], detail.get("ctx", {})
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    if kind == "hal0":
        return Complaint(loc, str(context["message"]), context.get("allowed"))
    if kind == "extra_forbidden":
        return _unknown_key(loc, root)
    if kind == "missing":
        return Complaint(loc, "is missing")
    if kind in {"enum", "literal_error"}:
        return Complaint(loc, "is none of the allowed values", str(context["expected"]))
    if wanted := _WANTED.get(kind):
        return Complaint(loc, f"is not {wanted}", wanted)
    if kind in _RANGES:
        name, words = _RANGES[kind]
        return Complaint(loc, "is out of range", words.format(f"{context[name]:g}"))
    message = detail["msg"]
    return Complaint(loc, message[:1].lower() + message[1:])


def _unknown_key(loc: Loc, root: type[BaseModel]) -> Complaint:
    known = known_keys(loc[:-1], root)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return Complaint(loc, f"unknown key{hint}", ", ".join(known))


def known_keys(loc: Iterable[str | int], root: type[BaseModel]) -> list[str]:
    """The keys that the table at `loc` may have; none where it is no table of ours."""
    found: Any = root
    for part in loc:
        model = _model_in(found)
        if model is not None:
            found = model.model_fields[str(part)].annotation if part in model.model_fields else None
        else:
            arguments = typing.get_args(found)
            found = arguments[0 if isinstance(part, int) else -1] if arguments else None
    model = _model_in(found)
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
