"""Every response format, and what a form may ask for."""

import json

import pytest

from serving.errors import Refusal
from transcribing.asked import Asked, judged
from transcribing.transcript import FORMATS, Segment, Transcript

SAID = Transcript(
    [
        Segment(0.0, 24.34, "It was the best of times & <the> worst.", (5, 6), -0.25),
        Segment(24.34, 25.0, ""),
        Segment(25.0, 3725.06, "Later.", (7,)),
    ],
    "english",
)


def written(name: str, said: Transcript = SAID) -> str:
    return FORMATS[name][1](said)


def test_json() -> None:
    assert json.loads(written("json")) == {
        "text": "It was the best of times & <the> worst. Later.",
        "usage": {"type": "duration", "seconds": 3726},
    }


def test_text() -> None:
    assert written("text") == "It was the best of times & <the> worst. Later.\n"


def test_srt() -> None:
    assert written("srt") == (
        "1\n00:00:00,000 --> 00:00:24,340\nIt was the best of times & <the> worst.\n\n"
        "2\n00:00:25,000 --> 01:02:05,060\nLater.\n"
    )


def test_vtt() -> None:
    assert written("vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:24.340\nIt was the best of times &amp; &lt;the&gt; worst.\n\n"
        "00:00:25.000 --> 01:02:05.060\nLater.\n"
    )


def test_verbose_json() -> None:
    told = json.loads(written("verbose_json"))
    assert (told["task"], told["language"], told["duration"]) == ("transcribe", "english", 3725.06)
    first, silent, last = told["segments"]
    assert first == {
        "id": 0, "seek": 0, "start": 0.0, "end": 24.34, "text": "It was the best of times & <the> worst.",
        "tokens": [5, 6], "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": first["compression_ratio"],
        "no_speech_prob": 0.0,
    }  # fmt: skip
    assert 0.5 < first["compression_ratio"] < 1.5
    assert (silent["text"], silent["no_speech_prob"]) == ("", 1.0)
    assert (last["id"], last["seek"]) == (2, 2500)


def test_long_captions_are_broken_between_words() -> None:
    text = written("srt", Transcript([Segment(0, 1, " ".join(["word"] * 40))], "english"))
    lines = text.splitlines()[2:]
    assert all(0 < len(line) <= 80 for line in lines)
    assert " ".join(lines).split() == ["word"] * 40


@pytest.mark.parametrize("name", FORMATS)
def test_silence_has_a_form_in_every_format(name: str) -> None:
    for silence in (Transcript([], "english"), Transcript([Segment(0, 2, "")], "english")):
        text = written(name, silence)
        assert "-->" not in text
        if "json" in name:
            assert json.loads(text)["text"] == ""


def test_what_is_not_asked_for_has_openais_default() -> None:
    assert judged({}) == Asked("json", stream=False, language=None)
    assert judged({"response_format": [""], "stream": [""], "temperature": [""], "language": [""]}) == judged({})


@pytest.mark.parametrize(
    ("fields", "param", "allowed"),
    [
        ({"response_format": "diarized_json"}, "response_format", "json, text, srt, verbose_json, vtt"),
        ({"response_format": "srt", "stream": "true"}, "response_format", "json (with stream), text (with stream)"),
        ({"stream": "maybe"}, "stream", "true, 1, false, 0"),
        ({"temperature": "warm"}, "temperature", "0 to 1"),
        ({"temperature": "nan"}, "temperature", "0 to 1"),
        ({"temperature": "1.5"}, "temperature", "0 to 1"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]", "segment"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(fields: dict[str, str], param: str, allowed: str) -> None:
    with pytest.raises(Refusal) as caught:
        judged({name: [value] for name, value in fields.items()})
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.endswith(f"allowed: {allowed}")
