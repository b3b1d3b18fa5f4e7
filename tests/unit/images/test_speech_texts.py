"""Texts and voices of the speech server: pieces to speak, blends, and what a request may ask for."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import Refusal
from speech import asked, voices
from speech.sentences import Piece, pieces

KNOWN = ("af_bella", "af_heart", "af_sky", "bf_emma", "ff_siwis", "jf_alpha")


def said(text: str) -> list[str]:
    return [piece.text for piece in pieces(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("Dr. Smith met J. R. R. Tolkien. They spoke.", ["Dr. Smith met J. R. R. Tolkien.", "They spoke."]),
        ("It costs 3.50 euros, e.g. here.", ["It costs 3.50 euros, e.g. here."]),
        ('He said "stop!" and left.', ['He said "stop!"', "and left."]),
        ("Wait... what?!  Yes", ["Wait...", "what?!", "Yes"]),
        ("你好。世界！好", ["你好。", "世界！", "好"]),  # noqa: RUF001
        ("नमस्ते। कैसे हो?", ["नमस्ते।", "कैसे हो?"]),
        ("one\nline\n\ntwo", ["one line", "two"]),
        (" \n\n ", []),
    ],
)
def test_a_text_is_cut_where_sentences_end(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_between_pieces_there_are_pauses_and_none_at_the_end() -> None:
    assert pieces("A b. C d.\n\nE f.") == [Piece("A b.", 0.25), Piece("C d.", 0.5), Piece("E f.", 0.0)]


def test_a_long_sentence_is_cut_at_a_clause_or_between_words_or_anywhere() -> None:
    clause, word = "so it went on, ", "and on "
    assert all(piece.endswith(",") for piece in said(clause * 40)[:-1])
    assert all(not piece.startswith("n") for piece in said(word * 80))
    assert [len(piece) for piece in said("x" * 600)] == [250, 250, 100]


@given(st.text(max_size=3000))
def test_nothing_of_a_text_is_lost_and_no_piece_is_long(text: str) -> None:
    found = pieces(text)
    assert "".join("".join(piece.text for piece in found).split()) == "".join(text.split())
    assert all(0 < len(piece.text) <= 250 for piece in found)


@pytest.mark.parametrize(
    ("asked_for", "shares", "language"),
    [
        ("bf_emma", {"bf_emma": 1.0}, "en-gb"),
        (None, {"af_heart": 1.0}, "en-us"),
        ("shimmer", {"af_bella": 1.0}, "en-us"),
        ("af_bella(3)+af_sky(1)", {"af_bella": 0.75, "af_sky": 0.25}, "en-us"),
        ("ff_siwis + af_sky", {"ff_siwis": 0.5, "af_sky": 0.5}, "fr-fr"),
        ("af_sky+coral(0.5)+af_sky(0.5)", {"af_sky": 0.75, "af_heart": 0.25}, "en-us"),
        ("af_sky(0.3333333333333333)+af_bella(0.6666666666666667)", {"af_sky": 1 / 3, "af_bella": 2 / 3}, "en-us"),
    ],
)
def test_a_voice_is_a_name_an_alias_or_a_blend(asked_for: str | None, shares: dict[str, float], language: str) -> None:
    blend = voices.parse(asked_for, KNOWN)
    assert dict(blend.shares) == pytest.approx(shares)
    assert blend.language == language


MUCH = f"af_sky({'9' * 400})"  # infinitely, to a computer


@pytest.mark.parametrize(
    "wrong",
    ["nobody", "af_bella(", "af_bella(-1)", "af_bella+", "af_bella(0)", "onyx", "+".join(["af_sky"] * 9), "é", MUCH],
)
def test_a_voice_that_is_not_there_is_answered_with_those_that_are(wrong: str) -> None:
    with pytest.raises(Refusal) as refused:
        voices.parse(wrong, KNOWN)
    assert (refused.value.status, refused.value.param) == (400, "voice")
    if "+" not in wrong and "(0)" not in wrong:
        assert all(voice in refused.value.message for voice in (*KNOWN, "shimmer"))


def test_voices_have_names_for_people() -> None:
    assert voices.label("hm_omega") == "Omega (Hindi, male)"
    assert voices.label("my own") == "my own"


def read(**members: Any) -> asked.Asked:
    return asked.read({"input": "Hi.", **members}, (0.5, 2.0))


def test_a_request_is_read_with_its_defaults() -> None:
    wanted = read(model="tts", instructions="be kind", unknown=1)
    assert (wanted.text, wanted.voice, wanted.format.name, wanted.speed) == ("Hi.", None, "mp3", 1.0)
    assert (wanted.events, wanted.whole, wanted.reference) == (False, False, None)


def test_a_voice_may_be_an_object_and_a_clip_a_data_url() -> None:
    assert read(voice={"id": "af_sky"}).voice == "af_sky"
    clip = "data:audio/wav;base64," + base64.b64encode(b"RIFF").decode()
    reference = read(ref_audio=clip, ref_text=" said ").reference
    assert reference is not None
    assert (reference.audio, reference.text) == (b"RIFF", "said")


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"input": " "}, "input", "not empty"),
        ({"input": 1}, "input", "text"),
        ({"input": "\0 \0"}, "input", "not empty"),
        ({"input": "\ud83d"}, "input", "half a character"),
        ({"ref_audio": "AAAA", "ref_text": "\udc00"}, "ref_text", "half a character"),
        ({"input": "x" * 4097}, "input", "at most 4096"),
        ({"voice": 7}, "voice", "a name"),
        ({"voice": {}}, "voice", "a name"),
        ({"speed": 4}, "speed", "0.5 to 2"),
        ({"speed": "1.0"}, "speed", "'1.0' is not allowed; allowed: a number from 0.5 to 2"),
        ({"speed": True}, "speed", "0.5 to 2"),
        ({"speed": float("nan")}, "speed", "0.5 to 2"),
        ({"response_format": "ogg"}, "response_format", "mp3, opus, aac, flac, wav, pcm"),
        ({"response_format": []}, "response_format", "mp3, opus"),
        ({"stream_format": "ws"}, "stream_format", "audio, sse"),
        ({"ref_audio": "AAAA"}, "ref_audio", "belong together"),
        ({"ref_audio": "??", "ref_text": "x"}, "ref_audio", "base64"),
        ({"ref_audio": "é", "ref_text": "x"}, "ref_audio", "base64"),
        ({"ref_audio": "AAAA", "ref_text": "x" * 1001}, "ref_text", "at most 1000"),
        ({"speed": 0}, "speed", "0.5 to 2"),
        ({"speed": -float("inf")}, "speed", "0.5 to 2"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(members: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(**members)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert words in refused.value.message
