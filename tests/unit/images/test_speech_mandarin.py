"""Mandarin as Kokoro learnt it: syllables, tones, numbers, and what is in other letters."""

# ruff: noqa: RUF001  the language has signs of its own

import sys
from types import SimpleNamespace

import pytest

from speech import mandarin


@pytest.mark.parametrize(
    ("syllable", "signs"),
    [
        (("n", "i", "3"), "ni↓"), (("h", "ao", "3"), "xau↓"), (("sh", "i", "4"), "ʂɨ↘"), (("j", "ie", "4"), "ʨje↘"),
        (("z", "i", "3"), "ʦɨ↓"), (("zh", "ong", "1"), "ꭧʊ→ŋ"), (("q", "ün", "2"), "ʨʰy↗n"), (("", "er", "2"), "ɚ↗"),
        (("", "o", "2"), "ɔ↗"), (("b", "o", "1"), "pwo→"), (("x", "ian", "4"), "ɕjɛ↘n"), (("m", "a", "5"), "ma"),
        (("l", "üe", "4"), "lɥe↘"), (("r", "i", "4"), "ɻɨ↘"), (("", "", ""), ""), (("", "?", "9"), ""),
    ],
)  # fmt: skip
def test_a_syllable(syllable: tuple[str, str, str], signs: str) -> None:
    assert mandarin.syllable(*syllable) == signs


def test_every_sign_is_one_that_kokoro_knows() -> None:
    """What it does not know it leaves out, unheard."""
    known = set("aefijklmnopqstuwxyəɚɛɔɕɤɥɨŋɻʂʊʦʨʰꭧ→↗↓↘")
    signs = "".join((*mandarin._BEGINNINGS.values(), *mandarin._ENDS.values(), *mandarin._TONES.values()))
    assert set(signs) - {"0"} <= known


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "零"), ("7", "七"), ("10", "十"), ("12", "十二"), ("20", "二十"),
        ("101", "一百零一"), ("110", "一百一十"),
        ("1001", "一千零一"), ("1010", "一千零一十"), ("10001", "一万零一"), ("123456", "十二万三千四百五十六"),
        ("100010000", "一亿零一万"), ("20000000000000", "二十万亿"), ("007", "零零七"), ("1" * 17, "一" * 17),
    ],
)  # fmt: skip
def test_a_number(digits: str, words: str) -> None:
    assert mandarin.spelled(digits) == words


def test_words_stay_together_and_other_letters_are_read_by_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dictionaries are in the image; here they know one sentence."""
    read = {
        "你好": ["n", "i3", "h", "ao3"],
        "世界": ["sh", "i4", "j", "ie4"],
        "百分之": ["b", "ai3", "f", "en1", "zh", "i1"],
        "五": ["", "u3"],
    }
    words = SimpleNamespace(cut=lambda run: ["百分之", "五"] if run.startswith("百") else [run])

    def lazy_pinyin(word: str, style: str, **_: object) -> list[str]:
        return read[word][style == "ends" :: 2]

    library = SimpleNamespace(lazy_pinyin=lazy_pinyin, Style=SimpleNamespace(INITIALS="begins", FINALS_TONE3="ends"))
    monkeypatch.setitem(sys.modules, "rjieba", words)
    monkeypatch.setitem(sys.modules, "pypinyin", library)
    said = mandarin.phonemes("你好，世界！《Hello》5%。", lambda word: f"<{word}>")
    assert said == "ni↓xau↓, ʂɨ↘ʨje↘! “ <Hello> ” pai↓fə→nꭧɨ→ u↓."
