"""A clip of a voice as it was sent, in any common format, as the sound that is cloned."""

import io
from typing import Final

import numpy as np

from serving.errors import Refusal
from serving.sounds import FORMATS, oddity
from speech.backend import RATE, Samples

LONGEST_S: Final = 12.0  # F5-TTS uses no more, and a clip that was cut would no longer say its words
_SHORTEST_S: Final = 0.5
_QUIET: Final = 0.008  # -42 dB: what is quieter before and after the words is not the voice
_AFTER_S: Final = 0.05


def decoded(audio: bytes) -> Samples:
    """The whole clip. Raises Refusal for what holds no sound, and for one that is too long."""
    import av

    parts: list[Samples] = []
    try:
        with av.open(io.BytesIO(audio), options={"format_whitelist": FORMATS}) as file:
            resampler = av.AudioResampler("flt", "mono", RATE)
            for frame in file.decode(audio=0):
                if (odd := oddity(frame.sample_rate, frame.layout.nb_channels)) is not None:
                    raise _refused(f"ref_audio is no sound: {odd}")
                frame.pts = None
                parts += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
                if sum(map(len, parts)) > (LONGEST_S + 1) * RATE:
                    break
            parts += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except (av.FFmpegError, ValueError, LookupError, OverflowError) as fault:  # the last three: PyAV's own words
        raise _refused("ref_audio holds no sound that can be decoded") from fault
    if not parts:
        raise _refused("ref_audio holds no sound that can be decoded")
    return np.nan_to_num(np.concatenate(parts))


def voiced(sound: Samples) -> Samples:
    """From the first word to the last, and a breath. Raises Refusal for silence, and for a length that is no use."""
    loud = np.flatnonzero(np.abs(sound) > _QUIET)
    seconds = (int(loud[-1]) + 1 - int(loud[0])) / RATE if len(loud) else 0.0
    if not _SHORTEST_S <= seconds <= LONGEST_S:
        length = f"more than {LONGEST_S:g}" if seconds > LONGEST_S else f"{seconds:.1f}"
        raise _refused(f"ref_audio has {length} s of sound; allowed: {_SHORTEST_S:g} to {LONGEST_S:g} s")
    breath = np.zeros(round(_AFTER_S * RATE), dtype=np.float32)
    return np.concatenate([sound[loud[0] : loud[-1] + 1], breath])


def _refused(said: str) -> Refusal:
    return Refusal(400, said, param="ref_audio", code="invalid_value")
