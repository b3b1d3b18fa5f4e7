"""A clip of a voice as it was sent, in any common format, as the sound that is cloned."""

import io
from typing import Final

import numpy as np

from serving.errors import Refusal
from speech.backend import RATE, Samples
from speech.formats import FORMATS, with_true_length

LONGEST_S: Final = 12.0  # F5-TTS uses no more


def decoded(audio: bytes) -> Samples:
    """The first LONGEST_S seconds. Raises Refusal for what holds no sound."""
    import av

    parts: list[Samples] = []
    try:
        with av.open(io.BytesIO(audio)) as file:
            resampler = av.AudioResampler("flt", "mono", RATE)
            for frame in file.decode(audio=0):
                frame.pts = None
                parts += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
                if sum(map(len, parts)) >= LONGEST_S * RATE:
                    break
    except (av.FFmpegError, IndexError, ValueError) as fault:
        raise _no_sound() from fault
    if not parts:
        raise _no_sound()
    return np.concatenate(parts)[: round(LONGEST_S * RATE)]


def as_wav(sound: Samples) -> bytes:
    """A whole file, with its true length."""
    wav = FORMATS["wav"]
    return with_true_length(wav, wav.encoder().feed(sound))


def _no_sound() -> Refusal:
    return Refusal(400, "ref_audio holds no sound that can be decoded", param="ref_audio", code="invalid_value")
