"""OpenAI's image requests, JSON or form, as one checked wish. Pure.

What this contract knows and a graph cannot do is refused, naming the field; what only tunes somebody else's service
(`style`, `moderation`, `user`) is accepted and means nothing; unknown members are ignored, as OpenAI does. Beyond the
contract: `negative_prompt`, `seed`, `steps`, `cfg`, `strength`.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hal0.errors import Hal0Error
from hal0.providers.base import Part
from hal0.providers.comfyui.pictures import look

MAX_COUNT: Final = 10  # OpenAI's own
MAX_EDGE: Final = 2048
# Of all pictures of one request: ten of 1280 x 1280. They are held in memory until the last one is there.
MAX_PIXELS: Final = 1 << 24
_MIN_EDGE: Final = 64
_MAX_PROMPT: Final = 32_000  # characters; OpenAI's own
_MAX_STEPS: Final = 150
_MAX_CFG: Final = 30.0
MAX_SEED: Final = 2**64 - 1
_SIZE: Final = re.compile(r"(\d{1,5})[xX](\d{1,5})\Z")
_DATA_URL: Final = re.compile(r"data:image/[a-z+.-]+;base64,")
# Which of a recipe's three figures for steps; None is the middle.
_QUALITIES: Final = {"low": 0, "medium": 1, "standard": 1, "auto": 1, "high": 2, "hd": 2}
_FORMATS: Final = ("png", "jpeg", "webp")
_PATHS_WITH_IMAGE: Final = ("/images/edits", "/images/variations")
# How much of a picture may change, unless told: a variation keeps its composition, a masked area is made anew.
_STRENGTH, _MASKED_STRENGTH = 0.6, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A picture to begin from; only the transparent area of `mask` changes. Edges in pixels."""

    image: bytes = field(repr=False)
    mask: bytes | None = field(repr=False)
    width: int
    height: int
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`size` is None for the model's own, `quality` 0-2. `partial_images` 0-3 are sent while one is being made."""

    prompt: str
    negative: str = ""
    n: int = 1
    size: tuple[int, int] | None = None
    quality: int = 1
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None
    format: str = "png"
    compression: int = 100
    as_url: bool = False
    partial_images: int = 0
    upload: Upload | None = None


def wish_of(path: str, members: Mapping[str, Any]) -> Wish:
    """`members` as `members_of` gives them. Raises request.invalid and render.unsupported_picture."""
    read = _Reader(members)
    upload = _upload(read) if path in _PATHS_WITH_IMAGE else None
    if read.text("background", "auto") == "transparent":
        raise _invalid("background", "none of these models makes transparent pictures")
    return Wish(
        prompt="" if path == "/images/variations" else _prompt(read),
        negative=read.text("negative_prompt", "", _MAX_PROMPT),
        n=read.whole("n", 1, MAX_COUNT) or 1,
        size=_size(read),
        quality=_QUALITIES[read.choice("quality", "auto", tuple(_QUALITIES))],
        seed=read.whole("seed", 0, MAX_SEED),
        steps=read.whole("steps", 1, _MAX_STEPS),
        cfg=read.number("cfg", 0.0, _MAX_CFG),
        format=read.choice("output_format", "png", _FORMATS),
        compression=_or(read.whole("output_compression", 0, 100), 100),
        as_url=read.choice("response_format", "b64_json", ("b64_json", "url")) == "url",
        partial_images=_or(read.whole("partial_images", 0, 3), 0),
        upload=upload,
    )


def members_of(parts: Sequence[Part]) -> dict[str, Any]:
    """A form's fields and files, as a JSON body would have them; files stay bytes."""
    members: dict[str, Any] = {}
    for part in parts:
        name = part.name.removesuffix("[]")
        if name in members:
            raise _invalid(name, "these models take one picture" if name == "image" else "it stands twice")
        try:
            members[name] = part.data if part.filename is not None else part.data.decode()
        except UnicodeDecodeError:
            raise _invalid(name, "it is not UTF-8") from None
    return members


class _Reader:
    """One member after the other; a form's are all texts. None and "" count as absent."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = {name: value for name, value in members.items() if value not in (None, "")}

    def text(self, name: str, otherwise: str, longest: int = 100) -> str:
        value = self._members.get(name, otherwise)
        if not isinstance(value, str):
            raise _invalid(name, "it is not a text")
        if len(value) > longest:
            raise _invalid(name, f"it is longer than {longest} characters")
        return value

    def choice(self, name: str, otherwise: str, choices: Sequence[str]) -> str:
        value = self.text(name, otherwise)
        if value not in choices:
            raise _invalid(name, f"it is none of {', '.join(choices)}")
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self._members.get(name)
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(r"\d{1,20}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _invalid(name, f"it is not a whole number from {least} to {most}")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        value = self._members.get(name)
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise _invalid(name, f"it is not a number from {least:g} to {most:g}")
        return float(value)

    def picture(self, name: str) -> bytes | None:
        """A file of a form, or a data: URL of a JSON body."""
        value = self._members.get(name)
        if value is None or isinstance(value, bytes):
            return value
        head = _DATA_URL.match(value) if isinstance(value, str) else None
        if head is None:
            raise _invalid(name, "it is neither a file of the form nor a data:image/...;base64, URL")
        try:
            return base64.b64decode(value[head.end() :], validate=True)
        except ValueError:  # binascii's own is one; what is not ASCII is only that
            raise _invalid(name, "it is not base64") from None


def _upload(read: _Reader) -> Upload:
    image, mask = read.picture("image"), read.picture("mask")
    if image is None:
        raise _invalid("image", "it is missing")
    seen = look(image, "image")
    if mask is not None:
        hole = look(mask, "mask")
        if not hole.alpha:
            raise _invalid("mask", f"this {hole.format.upper()} has no transparent area, which is what changes")
        if (hole.width, hole.height) != (seen.width, seen.height):
            raise _invalid(
                "mask", f"it is {hole.width}x{hole.height}, and its image {seen.width}x{seen.height}: make them equal"
            )
    strength = read.number("strength", 0.01, 1.0)
    usual = _STRENGTH if mask is None else _MASKED_STRENGTH
    return Upload(
        image=image, mask=mask, width=seen.width, height=seen.height, strength=usual if strength is None else strength
    )


def _prompt(read: _Reader) -> str:
    prompt = read.text("prompt", "", _MAX_PROMPT)
    if not prompt.strip():
        raise _invalid("prompt", "it is missing")
    return prompt


def _size(read: _Reader) -> tuple[int, int] | None:
    text = read.text("size", "auto")
    if text == "auto":
        return None
    match = _SIZE.match(text)
    if match is None:
        raise _invalid("size", "it is neither auto nor WIDTHxHEIGHT, such as 512x512")
    width, height = int(match[1]), int(match[2])
    if not (_MIN_EDGE <= width <= MAX_EDGE and _MIN_EDGE <= height <= MAX_EDGE):
        raise _invalid("size", f"edges are {_MIN_EDGE} to {MAX_EDGE} pixels")
    return width, height


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _invalid(param: str, why: str) -> Hal0Error:
    return Hal0Error("request.invalid", f"cannot make this picture: `{param}`: {why}", param=param)
