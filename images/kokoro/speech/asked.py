"""A speech request, read and checked: what is wrong with it is said in OpenAI's words, with what is allowed."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serving.errors import Refusal, not_allowed
from speech.backend import Reference
from speech.formats import FORMATS, Format

_MAX_INPUT: Final = 4096  # characters, OpenAI's own limit
_MAX_WORDS: Final = 1000  # characters that are said in a clip: nobody says more in its twelve seconds
_MAX_REFERENCE: Final = 20 * 1024 * 1024  # bytes of a clip
_STREAMS: Final = ("audio", "sse")


@dataclass(frozen=True, slots=True)
class Asked:
    """`whole`: the answer is wanted in one piece, with its true length. `events`: it is wanted as SSE."""

    text: str
    voice: str | None
    format: Format
    speed: float
    events: bool
    whole: bool
    reference: Reference | None


def read(body: Any, speeds: tuple[float, float]) -> Asked:
    """Raises Refusal. Members that mean nothing here (`instructions`, `model`) are passed over."""
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    events = _one_of(body, "stream_format", _STREAMS, "audio") == "sse"
    return Asked(
        text=_input(body),
        voice=_voice(body.get("voice")),
        format=FORMATS[_one_of(body, "response_format", tuple(FORMATS), "mp3")],
        speed=_speed(body.get("speed"), speeds),
        events=events,
        whole=not events and body.get("stream") is False,
        reference=_reference(body),
    )


def _one_of(body: Mapping[str, Any], member: str, allowed: tuple[str, ...], usual: str) -> str:
    value = body.get(member)
    if value is None:
        return usual
    if value not in allowed:
        raise not_allowed(member, value, allowed)
    return str(value)


def _input(body: Mapping[str, Any]) -> str:
    text = _text("input", body.get("input"), _MAX_INPUT)
    if not text:
        raise Refusal(400, "input must be a text that is not empty", param="input")
    return text


def _text(member: str, value: Any, most: int) -> str:
    """Empty for what is none; of at most so many characters.

    Half a character, which JSON can hold, belongs to no text; behind a zero C hears none.
    """
    text = value.replace("\0", " ").strip() if isinstance(value, str) else ""
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise Refusal(400, f"{member} is no Unicode text: it has half a character", param=member) from fault
    if len(text) > most:
        said = f"{member} has {len(text)} characters; allowed: at most {most}"
        raise Refusal(400, said, param=member, code="string_above_max_length")
    return text


def _voice(value: Any) -> str | None:
    """A name, or OpenAI's object around the id of a voice of one's own."""
    if isinstance(value, dict):
        value = value.get("id")
        if value is None:
            raise Refusal(400, 'voice must be a name or {"id": name}', param="voice")
    if value is None or isinstance(value, str):
        return value or None
    raise Refusal(400, 'voice must be a name or {"id": name}', param="voice")


def _speed(value: Any, speeds: tuple[float, float]) -> float:
    least, most = speeds
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        said = f"speed {repr(value)[:100]} is not allowed; allowed: a number from {least:g} to {most:g}"
        raise Refusal(400, said, param="speed")
    return float(value)


def _reference(body: Mapping[str, Any]) -> Reference | None:
    """`ref_audio`: base64, alone or as a data URL; `ref_text`: its words."""
    audio, text = body.get("ref_audio"), body.get("ref_text")
    if audio is None and text is None:
        return None
    words = _text("ref_text", text, _MAX_WORDS)
    if not isinstance(audio, str) or not words:
        raise Refusal(400, "ref_audio (base64) and ref_text (its words) belong together", param="ref_audio")
    _, _, encoded = audio.rpartition(",")
    if len(encoded) > _MAX_REFERENCE * 4 // 3:
        said = f"ref_audio is too large; allowed: at most {_MAX_REFERENCE // 1024 // 1024} MiB"
        raise Refusal(413, said, param="ref_audio")
    try:
        return Reference(base64.b64decode(encoded, validate=True), words)
    except ValueError as fault:  # binascii's own is one; what is not ASCII is only that
        raise Refusal(400, "ref_audio must be base64 or a data: URL", param="ref_audio") from fault
