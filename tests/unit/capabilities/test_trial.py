"""The test button: what an answer is worth in words, and every way in which it is worth nothing."""

import base64
import io
import wave
from pathlib import Path

import pytest

from hal0.capabilities.cards import find
from hal0.capabilities.trial import judge, tone, trial
from hal0.lib import jsonio
from hal0.vocab import Capability

SCORES = {"results": [{"index": 0, "relevance_score": 0.25}, {"index": 1, "relevance_score": -4.0}]}


@pytest.mark.parametrize(
    ("capability", "answer", "said"),
    [
        (Capability.CHAT, {"choices": [{"message": {"content": "Hi"}}]}, "it answers"),
        (Capability.EMBED, {"data": [{"embedding": [0.0] * 768}]}, "768 numbers"),
        (Capability.RERANK, SCORES, "2 scores, the best 0.250"),
        (Capability.STT, {"text": " Beep. "}, 'a second of sound is "Beep."'),
        (Capability.STT, {"text": ""}, "a second of sound without words"),
        (Capability.IMAGE, {"data": [{"b64_json": base64.b64encode(b"x" * 3000).decode()}]}, "one picture, 3 kB"),
    ],
)
def test_what_works(capability: Capability, answer: object, said: str) -> None:
    assert judge(capability, 200, jsonio.dumps(answer)) == (None, said)


def test_speech_is_measured() -> None:
    assert judge(Capability.TTS, 200, tone(0.5)) == (None, "0.5 s of speech")


def test_the_tone_is_a_second_of_sound() -> None:
    with wave.open(io.BytesIO(tone())) as sound:
        assert (sound.getframerate(), sound.getnframes(), sound.getnchannels()) == (16_000, 16_000, 1)


@pytest.mark.parametrize("capability", [c for c in Capability if c not in (Capability.COMPLETION, Capability.VISION)])
@pytest.mark.parametrize("answer", [b"", b"no", b"[]", b"{}", b'{"data": []}', b'{"results": [1]}', b"RIFFxxxxWAVE"])
def test_an_answer_of_another_kind_is_broken(capability: Capability, answer: bytes) -> None:
    code, said = judge(capability, 200, answer)
    assert (code, said) == ("upstream.broken", "the answer is not what this path answers with")


@pytest.mark.parametrize(
    ("status", "answer", "found"),
    [
        (503, b'{"error": {"code": "slot.offline", "message": "slot embed is offline"}}', "slot.offline"),
        (500, b"oops", "upstream.broken"),
        (404, b'{"error": "text"}', "upstream.broken"),
    ],
)
def test_a_refusal_keeps_its_code(status: int, answer: bytes, found: str) -> None:
    assert judge(Capability.EMBED, status, answer)[0] == found


async def test_a_hal0_that_does_not_answer_is_said(tmp_path: Path) -> None:
    view = await trial(find("embed", "embed"), "embed", tmp_path / "no.sock", timeout_s=1)
    assert (view.ok, view.code) == (False, "upstream.unreachable")
