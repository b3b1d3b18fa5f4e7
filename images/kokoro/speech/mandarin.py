"""Mandarin as the sounds that Kokoro learnt it by: words by rjieba, their syllables by pypinyin, signs by a table."""

import re
from collections.abc import Callable, Iterator
from typing import Final

# A syllable is a beginning and an end; 0 in the end is where the sign of the tone stands.
_BEGINNINGS: Final = {
    "": "", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l", "g": "k", "k": "kʰ",
    "h": "x", "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s",
}  # fmt: skip
_ENDS: Final = {
    "a": "a0", "ai": "ai0", "an": "a0n", "ang": "a0ŋ", "ao": "au0", "e": "ɤ0", "ei": "ei0", "en": "ə0n", "eng": "ə0ŋ",
    "er": "ɚ0", "i": "i0", "ia": "ja0", "ian": "jɛ0n", "iang": "ja0ŋ", "iao": "jau0", "ie": "je0", "in": "i0n",
    "ing": "i0ŋ", "io": "jɔ0", "iong": "jʊ0ŋ", "iou": "jou0", "o": "wo0", "ong": "ʊ0ŋ", "ou": "ou0", "u": "u0",
    "ua": "wa0", "uai": "wai0", "uan": "wa0n", "uang": "wa0ŋ", "uei": "wei0", "uen": "wə0n", "ueng": "wə0ŋ",
    "uo": "wo0", "ü": "y0", "üan": "ɥɛ0n", "üe": "ɥe0", "ün": "y0n", "ê": "ɛ0",
}  # fmt: skip
_HISSING: Final = frozenset({"zh", "ch", "sh", "r", "z", "c", "s"})  # after which `i` is no vowel of its own
_TONES: Final = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}

_MARKS: Final = str.maketrans(
    {"、": ", ", "，": ", ", "。": ". ", "．": ". ", "！": "! ", "？": "? ", "：": ": ", "；": "; "}  # noqa: RUF001
    | {"（": " (", "）": ") "}  # noqa: RUF001
    | dict.fromkeys("«《「『【〈", " “")
    | dict.fromkeys("»》」』】〉", "” ")
)
_OWN: Final = r"\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_RUN: Final = re.compile(rf"(?P<own>[{_OWN}]+)|(?P<other>[^\W{_OWN}]+)|\W+")
_NUMBER: Final = re.compile(r"(\d+)(?:\.(\d+))?(%)?")
_DIGITS: Final = "零一二三四五六七八九"
_PLACES: Final = ("", "十", "百", "千")
_GROUPS: Final = ("", "万", "亿", "万亿")


def phonemes(text: str, foreign: Callable[[str], str]) -> str:
    """What of `text` is not Mandarin is for `foreign`; words are parted by spaces."""
    said = _NUMBER.sub(_number, text).translate(_MARKS)
    return " ".join("".join(_runs(said, foreign)).split())


def _runs(text: str, foreign: Callable[[str], str]) -> Iterator[str]:
    import rjieba  # the dictionaries take a moment, which other languages need not wait for

    for run in _RUN.finditer(text):
        if run["own"]:
            yield " ".join(_word(word) for word in rjieba.cut(run["own"]))
        elif run["other"]:
            yield f" {foreign(run['other'])} "
        else:
            yield run[0]


def _word(word: str) -> str:
    from pypinyin import Style, lazy_pinyin

    begins = lazy_pinyin(word, style=Style.INITIALS, errors="ignore")
    ends = lazy_pinyin(word, style=Style.FINALS_TONE3, errors="ignore", v_to_u=True, neutral_tone_with_five=True)
    return "".join(syllable(begin, end[:-1], end[-1:]) for begin, end in zip(begins, ends, strict=False))


def syllable(begin: str, end: str, tone: str) -> str:
    """As Pinyin has it: `zh`, `ong`, `4`; nothing for what is no syllable of the language."""
    sounds = _ENDS.get(end, "")
    if end == "i" and begin in _HISSING:
        sounds = "ɨ0"
    elif end == "o" and not begin:
        sounds = "ɔ0"
    return _BEGINNINGS.get(begin, "") + sounds.replace("0", _TONES.get(tone, ""))


def _number(found: re.Match[str]) -> str:
    whole, part, percent = found.groups()
    said = spelled(whole) + (f"点{_one_by_one(part)}" if part else "")
    return f"百分之{said}" if percent else said


def spelled(digits: str) -> str:
    """A number in words; one that nobody counts (a telephone's, a year's with its zero in front) digit by digit."""
    if len(digits) > 4 * len(_GROUPS) or (digits.startswith("0") and len(digits) > 1):
        return _one_by_one(digits)
    if digits == "0":
        return _DIGITS[0]
    said, gap = "", False
    for place, digit in zip(range(len(digits) - 1, -1, -1), map(int, digits), strict=True):
        if digit:
            said += (_DIGITS[0] if gap and said else "") + _DIGITS[digit] + _PLACES[place % 4]
        gap = digit == 0
        group = digits[max(0, len(digits) - place - 4) : len(digits) - place]
        if place % 4 == 0 and place and group.strip("0"):
            said, gap = said + _GROUPS[place // 4], False
    return said.removeprefix("一") if said.startswith("一十") else said


def _one_by_one(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)
