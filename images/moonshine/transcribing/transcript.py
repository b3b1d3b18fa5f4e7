"""What was said, and in which of OpenAI's formats it is told. Pure."""

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

# A caption that stands for half a minute cannot be read; but nobody knows when a word was said, so a piece of sound is
# one caption, and this is where its lines break.
_LINE: Final = 80


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of sound; times in seconds. `confidence` is the mean log-probability of its tokens, 0 without any."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...] = ()
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """`language` is an English word, such as `english`; `task` is transcribe or translate."""

    segments: Sequence[Segment]
    language: str
    task: str = "transcribe"

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def duration_s(self) -> float:
        return self.segments[-1].end_s if self.segments else 0.0


def as_json(said: Transcript) -> str:
    return json.dumps({"text": said.text, "usage": usage(said)})


def as_text(said: Transcript) -> str:
    return said.text + "\n"


def as_srt(said: Transcript) -> str:
    spoken = [segment for segment in said.segments if segment.text]
    return "\n".join(
        f"{number}\n{_time(one.start_s, ',')} --> {_time(one.end_s, ',')}\n{_lines(one.text)}\n"
        for number, one in enumerate(spoken, 1)
    )


def as_vtt(said: Transcript) -> str:
    # A caption's text may hold no arrow and, in this format, markup.
    spoken = [segment for segment in said.segments if segment.text]
    return "WEBVTT\n\n" + "\n".join(
        f"{_time(one.start_s, '.')} --> {_time(one.end_s, '.')}\n{_lines(_escaped(one.text))}\n" for one in spoken
    )


def as_verbose_json(said: Transcript) -> str:
    return json.dumps(
        {
            "task": said.task,
            "language": said.language,
            "duration": round(said.duration_s, 3),
            "text": said.text,
            "segments": [_verbose(number, one) for number, one in enumerate(said.segments)],
            "usage": usage(said),
        }
    )


# Content type and writer of each `response_format`.
FORMATS: Final[Mapping[str, tuple[str, Callable[[Transcript], str]]]] = MappingProxyType(
    {
        "json": ("application/json", as_json),
        "text": ("text/plain", as_text),
        "srt": ("application/x-subrip", as_srt),
        "verbose_json": ("application/json", as_verbose_json),
        "vtt": ("text/vtt", as_vtt),
    }
)


def usage(said: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(said.duration_s)}


def _verbose(number: int, one: Segment) -> dict[str, Any]:
    packed = zlib.compress(one.text.encode())
    return {
        "id": number,
        "seek": round(one.start_s * 100),
        "start": round(one.start_s, 3),
        "end": round(one.end_s, 3),
        "text": one.text,
        "tokens": list(one.tokens),
        "temperature": 0.0,  # the likeliest token is always taken
        "avg_logprob": round(one.confidence, 4),
        "compression_ratio": round(len(one.text.encode()) / len(packed), 3),
        "no_speech_prob": 0.0 if one.text else 1.0,  # the model has no word for it but saying nothing
    }


def _time(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}{point}{milliseconds:03}"


def _lines(text: str) -> str:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < _LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
