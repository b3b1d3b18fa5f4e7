"""Japanese as Kokoro learnt it: how kana sound, numbers, and what is in other letters or in no dictionary."""

# ruff: noqa: RUF001  the language has signs of its own

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest

from serving.errors import Refusal
from speech import japanese


@pytest.mark.parametrize(
    ("kana", "sounds"),
    [
        ("コンニチワ", "koɲɲiʨiβa"), ("セカイ", "sekai"), ("トーキョー", "toːkʲoː"), ("シンブン", "ɕimbɯɴ"),
        ("ガッコー", "ɡaʔkoː"), ("ギンコー", "ɡʲiŋkoː"), ("シャシン", "ɕaɕiɴ"), ("ジュー", "ʥɨː"),
        ("チョット", "ʨoʔto"), ("キャァ", "kʲaa"),
        ("リョコー", "ɾʲokoː"), ("ファン", "ɸaɴ"), ("フィルム", "ɸʲiɾɯmɯ"), ("パーティー", "paːtʲiː"),
        ("ウィキ", "βikʲi"), ("クォーツ", "kᵝoːʦɨ"), ("ヴァイオリン", "vaioɾʲiɴ"), ("トゥ", "tɯ"), ("チェ", "ʨe"),
        ("ァ", "a"), ("アァ", "aa"), ("", ""),
    ],
)  # fmt: skip
def test_a_word_in_kana(kana: str, sounds: str) -> None:
    assert japanese.sounds(kana) == sounds


def test_every_sign_is_one_that_kokoro_knows() -> None:
    """What it does not know it leaves out, unheard."""
    known = set("abdehijkmnopstvzçŋɕɡɨɯɲɴɸɾʔʣʥʦʨʲːβᵝ")
    kana = [chr(code) for code in range(0x30A1, 0x30FB)]
    assert set("".join(japanese.sounds(one + other) for one in kana for other in kana)) <= known


@pytest.mark.parametrize(
    ("written", "kana"),
    [
        ("0", "ゼロ"), ("7", "ナナ"), ("10", "ジュー"), ("21", "ニジューイチ"), ("100", "ヒャク"),
        ("365", "サンビャクロクジューゴ"), ("1000", "セン"), ("8600", "ハッセンロッピャク"), ("10000", "イチマン"),
        ("20250401", "ニセンニジューゴマンヨンヒャクイチ"), ("100000001", "イチオクイチ"),
        ("1000000000000", "イッチョー"), ("0.5", "ゼロテンゴ"), ("80%", "ハチジューパーセント"),
        ("007", "ゼロゼロナナ"), ("1" * 17, "イチ" * 17),
    ],
)  # fmt: skip
def test_a_number(written: str, kana: str) -> None:
    assert japanese.number(written) == kana


@pytest.fixture
def dictionary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real one is in the image; this one knows a sentence."""
    said = {"今日": "キョー", "は": "ワ", "世界": "セカイ", "龘": "*", "っ": "ッ", "て": "テ"}

    class Tokenizer:
        def tokenize(self, run: str) -> list[SimpleNamespace]:
            words, rest = [], run
            while rest:
                word = next((word for word in said if rest.startswith(word)), rest[0])
                words.append(SimpleNamespace(surface=word, phonetic=said.get(word, "*")))
                rest = rest.removeprefix(word)
            return words

    module = ModuleType("janome.tokenizer")
    module.__dict__["Tokenizer"] = Tokenizer
    monkeypatch.setitem(sys.modules, "janome", ModuleType("janome"))
    monkeypatch.setitem(sys.modules, "janome.tokenizer", module)
    japanese._dictionary.cache_clear()
    yield
    japanese._dictionary.cache_clear()


@pytest.mark.usefixtures("dictionary")
def test_words_are_said_as_the_dictionary_says_and_other_letters_by_somebody_else() -> None:
    said = japanese.phonemes("「今日は、世界！」って3 Hello ｶﾅ。", lambda word: f"<{word}>")
    assert said == "“kʲoː βa, sekai!”ʔte saɴ <Hello> ka na."


@pytest.mark.usefixtures("dictionary")
def test_what_no_dictionary_reads_is_named_and_kana_never_is() -> None:
    japanese.refuse_unreadable("今日は世界、ぬゃ 7 Hello 🎉")
    for rare in ("龘", "\U00020bb7"):
        with pytest.raises(Refusal) as refused:
            japanese.refuse_unreadable(f"今日は{rare}")
        assert (refused.value.status, refused.value.param) == (400, "input")
        assert f"{rare}; write them in kana" in refused.value.message
