"""Podman's refusals in hal0's words: one table from status and text to the errors callers act on. Pure."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hal0.engine.errors import ContainerMissing, HostRefused, ImageMissing, NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.lib.jsonio import JSONDecodeError, loads

_MAX_DETAIL: Final = 400  # one readable line; podman repeats itself after that
_PORT: Final = re.compile(r"(?::|port )(\d{1,5})\b(?=[:\s]|$)")
_ID: Final = re.compile(r"[0-9a-f]{64}")
_IMAGE: Final = re.compile(r"image not known|no such image|failed to find image")
_NAME: Final = re.compile(r"name .*(?:already in use|is in use)")
_HOST: Final = re.compile(
    r"no such file or directory|command that was not found|executable file not found|permission denied"
    r"|cdi device|network not found|operation not permitted|not supported|no such device|is not a device"
)
NOT_PODMAN_HINT: Final = (
    "Point engine.socket at podman's own socket, or unset CONTAINER_HOST; "
    "without either hal0 starts podman itself where it is installed."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call was about, for its errors: a verb phrase such as "start hal0-x" and the names in it."""

    doing: str
    container: str = ""
    image: str = ""
    port: int | None = None


def called(ref: str) -> str:
    """An id as podman prints it, for people to read; a name as it is."""
    return ref[:12] if _ID.fullmatch(ref) else ref


def about(doing: str, container: str) -> Subject:
    """Something that is done to a container, by its id or name."""
    name = called(container)
    return Subject(f"{doing} {name}", container=name)


def refusal(status: int, body: bytes, subject: Subject) -> Hal0Error:
    """The error for a podman answer with a status of 400 or more (or an error line in a 200 stream)."""
    document = _document(body)
    if status == 404 and "cause" not in document:
        return Hal0Error(
            "engine.not_podman",
            f"cannot {subject.doing}: the socket answers, but not as podman does",
            hint=NOT_PODMAN_HINT,
        )
    text = one_line(str(document.get("message") or document.get("cause") or body.decode(errors="replace")))
    low = text.lower()
    if "no such container" in low:
        return ContainerMissing(subject.container)
    if "address already in use" in low or "port is already allocated" in low:
        return PortTaken(_port(text, subject), text)
    if _NAME.search(low):
        return NameTaken(subject.container)
    if _IMAGE.search(low):
        return ImageMissing(subject.image or subject.container)
    if _HOST.search(low):
        return HostRefused(text)
    return Hal0Error("engine.failed", f"cannot {subject.doing}: {text or f'podman answered {status}'}")


def unreachable(socket: Path, subject: Subject, why: str, hint: str | None) -> Hal0Error:
    return Hal0Error(
        "engine.unreachable", f"cannot {subject.doing}: podman does not answer at {socket} ({why})", hint=hint
    )


def timed_out(subject: Subject, timeout_s: float) -> Hal0Error:
    return Hal0Error("engine.timeout", f"cannot {subject.doing}: podman took longer than {timeout_s:g} s")


def one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_DETAIL else line[: _MAX_DETAIL - 3] + "..."


def _port(text: str, subject: Subject) -> int:
    if subject.port is not None:
        return subject.port
    match = _PORT.search(text)
    return int(match[1]) if match else 0


def _document(body: bytes) -> dict[str, Any]:
    try:
        value = loads(body)
    except JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
