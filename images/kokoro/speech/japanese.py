"""Japanese as the sounds that Kokoro learnt it by: how words are said by Janome's dictionary, kana by a table."""

# ruff: noqa: RUF001  the language has signs of its own

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from serving.errors import Refusal

# A row of katakana and how its signs are said; the vowel comes last.
_ROWS: Final = {
    "アイウエオ": "a i ɯ e o", "カキクケコ": "ka kʲi kɯ ke ko", "ガギグゲゴ": "ɡa ɡʲi ɡɯ ɡe ɡo",
    "サシスセソ": "sa ɕi sɨ se so", "ザジズゼゾ": "ʣa ʥi zɨ ʣe ʣo", "タチツテト": "ta ʨi ʦɨ te to",
    "ダヂヅデド": "da ʥi zɨ de do", "ナニヌネノ": "na ɲi nɯ ne no", "ハヒフヘホ": "ha çi ɸɯ he ho",
    "バビブベボ": "ba bʲi bɯ be bo", "パピプペポ": "pa pʲi pɯ pe po", "マミムメモ": "ma mʲi mɯ me mo",
    "ヤユヨ": "ja jɯ jo", "ラリルレロ": "ɾa ɾʲi ɾɯ ɾe ɾo", "ワヰヱヲ": "βa i e o", "ヴ": "vɯ",
    "ァィゥェォ": "a i ɯ e o", "ャュョ": "ja jɯ jo", "ヮヵヶ": "βa ka ke",
}  # fmt: skip
_SIGNS: Final = {
    sign: said for row, all_said in _ROWS.items() for sign, said in zip(row, all_said.split(), strict=True)
}
# A small sign takes the vowel's place of the one before it.
_SMALL: Final = {"ァ": "a", "ィ": "i", "ゥ": "ɯ", "ェ": "e", "ォ": "o", "ャ": "a", "ュ": "ɨ", "ョ": "o", "ヮ": "a"}
_BEFORE_SMALL: Final = {"イ": "j", "ウ": "β", "ク": "kᵝ", "グ": "ɡᵝ"}
_SOFT: Final = frozenset("ィャュョ")  # these make the consonant before them soft, if it can be
_SOFTENED: Final = frozenset("テデツフヴ")
_NASALS: Final = (("m", "mpb"), ("ŋ", "kɡ"), ("ɲ", "ɲʨʥ"), ("n", "ntdɾzsʣʦ"))
_NASAL: Final = "ɴ"

_MARKS: Final = str.maketrans(
    {"、": ", ", "。": ". ", ",": ", ", "!": "! ", "?": "? ", ":": ": ", ";": "; ", "・": " ", "〜": "—", "~": "—"}
    | dict.fromkeys("«《「『【〈", " “")
    | dict.fromkeys("»》」』】〉", "” ")
)
_OWN: Final = (
    r"\u3005-\u3007\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30fe"
    r"\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(rf"(?P<number>\d+(?:\.\d+)?%?)|(?P<own>[{_OWN}]+)|(?P<other>[^\W\d{_OWN}]+)|[\W_]")
_KANA: Final = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc]+")
_HIRAGANA: Final = {code: code + 0x60 for code in range(0x3041, 0x3097)}
_UNKNOWN: Final = "*"  # what the dictionary says of a word that is not in it

_DIGITS: Final = ("ゼロ", "イチ", "ニ", "サン", "ヨン", "ゴ", "ロク", "ナナ", "ハチ", "キュー")
_PLACES: Final = ("", "ジュー", "ヒャク", "セン")
_GROUPS: Final = ("", "マン", "オク", "チョー")
_RUN_ON: Final = {
    "サンヒャク": "サンビャク", "ロクヒャク": "ロッピャク", "ハチヒャク": "ハッピャク", "サンセン": "サンゼン",
    "ハチセン": "ハッセン", "イチチョー": "イッチョー", "ハチチョー": "ハッチョー", "ジューチョー": "ジュッチョー",
}  # fmt: skip


def phonemes(text: str, foreign: Callable[[str], str]) -> str:
    """What of `text` is not Japanese is for `foreign`; words are parted by spaces."""
    said = " ".join("".join(_runs(text, foreign)).split())
    return re.sub(r" (?=[ʔː”])|(?<=ʔ) ", "", said)  # a stop, or a long vowel, is no beginning


def refuse_unreadable(text: str) -> None:
    """Raises Refusal for signs that the dictionary has not: they would be left out, unheard."""
    runs = _RUN.finditer(unicodedata.normalize("NFKC", text))
    unread = "".join(word for run in runs if run["own"] for word, said in _words(run["own"]) if not sounds(said))
    if unread:
        raise Refusal(
            400, f"input has signs that the dictionary has no reading for: {unread[:20]}; write them in kana",
            param="input", code="unsupported",
        )  # fmt: skip


def _runs(text: str, foreign: Callable[[str], str]) -> Iterator[str]:
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text)):
        if run["number"]:
            yield f" {sounds(number(run['number']))} "
        elif run["own"]:
            yield " ".join(sounds(said) for _, said in _words(run["own"]))
        elif run["other"]:
            yield f" {foreign(run['other'])} "
        else:
            yield run[0].translate(_MARKS)


def _words(run: str) -> Iterator[tuple[str, str]]:
    """Each word, and how it is said in katakana; nothing for one that nobody knows."""
    for token in _dictionary().tokenize(run):
        said = token.phonetic
        if said == _UNKNOWN:
            said = token.surface.translate(_HIRAGANA) if _KANA.fullmatch(token.surface) else ""
        yield token.surface, said


@cache
def _dictionary() -> Any:
    from janome.tokenizer import Tokenizer  # it takes a moment, which other languages need not wait for

    return Tokenizer()


def sounds(kana: str) -> str:
    """Of a word in katakana."""
    said = ""
    for before, sign, after in zip(f" {kana}", kana, f"{kana[1:]} ", strict=False):
        if sign == "ー":
            said += "ː"
        elif sign == "ッ":
            said += "ʔ"
        elif sign == "ン":
            said += _nasal(after)
        elif sign in _SMALL and before not in _SMALL and (before in _BEFORE_SMALL or len(_SIGNS.get(before, "")) > 1):
            said = said.removesuffix(_SIGNS[before]) + _consonant(before, sign) + _SMALL[sign]
        else:
            said += _SIGNS.get(sign, "")
    return said


def _consonant(sign: str, small: str) -> str:
    own = _BEFORE_SMALL.get(sign) or _SIGNS[sign][:-1]
    return f"{own}ʲ" if small in _SOFT and sign in _SOFTENED else own


def _nasal(after: str) -> str:
    begins = _SIGNS.get(after, " ")[0]
    return next((nasal for nasal, before in _NASALS if begins in before), _NASAL)


def number(written: str) -> str:
    """In katakana: `3`, `0.5`, `80%`. One that nobody counts (a telephone's) is read digit by digit."""
    whole, _, part = written.removesuffix("%").partition(".")
    said = _counted(whole) + (f"テン{_one_by_one(part)}" if part else "")
    return f"{said}パーセント" if written.endswith("%") else said


def _counted(digits: str) -> str:
    if len(digits) > 4 * len(_GROUPS) or (digits.startswith("0") and len(digits) > 1):
        return _one_by_one(digits)
    said = ""
    for group, end in reversed([*zip(_GROUPS, range(len(digits), 0, -4), strict=False)]):
        four = digits[max(0, end - 4) : end]
        if four.strip("0"):
            said += _four(four, group)
    return said or _DIGITS[0]


def _four(digits: str, unit: str) -> str:
    """At most four digits and their unit, of which ten, a hundred and a thousand have no one before them."""
    said = ""
    for place, digit in zip(range(len(digits) - 1, -1, -1), map(int, digits), strict=True):
        if digit:
            said += ("" if digit == 1 and place else _DIGITS[digit]) + _PLACES[place]
    said += unit
    for apart, together in _RUN_ON.items():
        said = said.replace(apart, together)
    return said


def _one_by_one(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)
