"""Kokoro's voices: what their names say, the names of OpenAI's that stand for them, and blends of several."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from serving.errors import Refusal, not_allowed

DEFAULT: Final = "af_heart"
_MOST: Final = 8  # voices of one blend

MANDARIN: Final = "cmn"
JAPANESE: Final = "ja"
# First letter of a voice -> what espeak-ng calls its language, and what people call it.
LANGUAGES: Final = {
    "a": ("en-us", "American English"),
    "b": ("en-gb", "British English"),
    "e": ("es", "Spanish"),
    "f": ("fr-fr", "French"),
    "h": ("hi", "Hindi"),
    "i": ("it", "Italian"),
    "j": (JAPANESE, "Japanese"),
    "p": ("pt-br", "Brazilian Portuguese"),
    "z": (MANDARIN, "Mandarin Chinese"),
}
_KINDS: Final = {"f": "female", "m": "male"}

# Clients that were written for OpenAI ask for its voices.
ALIASES: Final = {
    "alloy": "af_alloy", "ash": "am_michael", "ballad": "bm_george", "cedar": "am_adam", "coral": "af_heart",
    "echo": "am_echo", "fable": "bm_fable", "marin": "af_kore", "nova": "af_nova", "onyx": "am_onyx",
    "sage": "af_sarah", "shimmer": "af_bella", "verse": "am_fenrir",
}  # fmt: skip

_PART: Final = re.compile(r"(?P<name>[A-Za-z0-9_]+)(?:\((?P<weight>[0-9]{1,4}(?:\.[0-9]+)?)\))?")


@dataclass(frozen=True, slots=True)
class Blend:
    """Voices and their shares, which add up to 1. It speaks the language of the first voice."""

    shares: tuple[tuple[str, float], ...]

    @property
    def language(self) -> str:
        """As espeak-ng calls it."""
        return LANGUAGES.get(self.shares[0][0][:1], LANGUAGES["a"])[0]


def parse(asked: str | None, known: Collection[str]) -> Blend:
    """`name`, `name+name` or `name(2)+name(1)`; None is the usual voice. Raises Refusal that lists what is known."""
    parts = [part.strip() for part in (asked or _usual(known)).split("+")]
    if len(parts) > _MOST:
        raise Refusal(400, f"voice: at most {_MOST} voices can be blended", param="voice", code="invalid_value")
    weights: dict[str, float] = {}
    for part in parts:
        match = _PART.fullmatch(part)
        name = match["name"] if match else part
        voice = ALIASES.get(name, name) if name not in known else name
        if match is None or voice not in known:
            raise not_allowed("voice", part, (*sorted(known), *_usable_aliases(known), "and blends: a(2)+b(1)"))
        weights[voice] = weights.get(voice, 0.0) + float(match["weight"] or 1)
    total = sum(weights.values())
    if total <= 0:
        raise Refusal(400, "voice: the weights of a blend add up to nothing", param="voice", code="invalid_value")
    return Blend(tuple((voice, weight / total) for voice, weight in weights.items()))


def label(voice: str) -> str:
    """`Bella (American English, female)`; a name that does not follow the pattern stays as it is."""
    prefix, _, name = voice.partition("_")
    if not name or len(prefix) != 2 or prefix[0] not in LANGUAGES or prefix[1] not in _KINDS:
        return voice
    return f"{name.capitalize()} ({LANGUAGES[prefix[0]][1]}, {_KINDS[prefix[1]]})"


def _usual(known: Collection[str]) -> str:
    return DEFAULT if DEFAULT in known else min(known)


def _usable_aliases(known: Collection[str]) -> Iterable[str]:
    return (alias for alias, voice in ALIASES.items() if voice in known)
