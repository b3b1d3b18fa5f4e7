"""The ground of every configuration model: refuse the unknown, never change, and one type per kind of value.

Durations are seconds in fields ending in `_s`; sizes are bytes, written as a number or as "8GiB", "500MB".
Types are strict (`port = "8080"` is refused, so is `port = true`): what a file says is what hal0 uses.
"""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError


class ConfigModel(BaseModel):
    """A table that the user wrote: unknown keys are faults, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)


def fault(message: str, *, allowed: str | None = None) -> PydanticCustomError:
    """A validation error in hal0's words; `allowed` says what would be accepted."""
    context: dict[str, Any] = {"message": message}
    if allowed is not None:
        context["allowed"] = allowed
    return PydanticCustomError("hal0", "{message}", context)


_BASE_URL: Final = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?\Z")
_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]i?B|B)?\Z", re.IGNORECASE)
_SIZE_FORMS: Final = 'bytes as a number, or a string such as "8GiB" or "500MB"'
_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(value: object) -> object:
    """Bytes from 1024, "8GiB" (powers of 1024) or "8GB" (powers of 1000)."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value.strip())
    if match is None:
        raise fault(f"{value!r} is not a size", allowed=_SIZE_FORMS)
    unit = (match["unit"] or "B").lower()
    factor = 1 if unit == "b" else (1024 if "i" in unit else 1000) ** _POWERS[unit[0]]
    return int(float(match["number"]) * factor)


def split_words(value: object) -> object:
    """A list as it is; a string split as a shell would."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise fault(
            f"cannot split {value!r}: {error}", allowed="a list of strings, or a shell-quoted string"
        ) from error


def _listed(value: object) -> object:
    """One string where a list may stand counts as a list of one; commas separate (the environment's way)."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _absolute(path: Path) -> Path:
    expanded = path.expanduser()
    if not expanded.is_absolute():
        raise fault(f"{str(path)!r} is not an absolute path", allowed="a path that starts with / or ~")
    return expanded


def _base_url(url: str) -> str:
    if not _BASE_URL.match(url):
        # The text is not repeated: it may hold a password.
        raise fault("is not a base address", allowed="http(s)://host[:port][/path] without user, query or fragment")
    return url.rstrip("/")


Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
SomeCount = Annotated[int, Field(strict=True, ge=1)]
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Size = Annotated[int, BeforeValidator(parse_size), Field(strict=True, ge=0)]
SomeSize = Annotated[int, BeforeValidator(parse_size), Field(strict=True, ge=1)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
Words = Annotated[tuple[Text, ...], BeforeValidator(split_words)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
AbsolutePaths = Annotated[tuple[AbsolutePath, ...], BeforeValidator(_listed)]
