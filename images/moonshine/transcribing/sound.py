"""Any common audio file as 16 kHz mono samples, decoded bit by bit by FFmpeg."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from serving.sounds import FORMATS, oddity
from transcribing.cutting import RATE, Samples
from transcribing.speech import NotSoundError

_CHUNK: Final = RATE  # handed on by the second: the frames of most formats last a few milliseconds


def decoded(path: Path) -> Iterator[Samples]:
    """About a second at a time. Raises NotSoundError, also half-way for a file that is damaged from there on.

    A packet that is no sound is passed over, as players do: many files end with a tag that is one.
    """
    if not path.stat().st_size:
        raise NotSoundError("it is empty")
    try:
        with _opened(path) as container:
            if not container.streams.audio:
                raise NotSoundError("it has no audio track")
            yield from _gathered(_resampled(container))
    except (FFmpegError, ValueError, LookupError, OverflowError) as fault:  # the last three: PyAV's own words
        raise NotSoundError(_reason(fault)) from fault


def _opened(path: Path) -> av.container.InputContainer:
    """FFmpeg's own words for what it does not know, or may not open, tell nobody anything."""
    try:
        return av.open(str(path), options={"format_whitelist": FORMATS})
    except (FFmpegError, ValueError) as fault:
        raise NotSoundError(
            "it is not in any format of sound that is known here, or its beginning is damaged"
        ) from fault


def _resampled(container: av.container.InputContainer) -> Iterator[Samples]:
    resampler = AudioResampler(format="flt", layout="mono", rate=RATE)
    kind: tuple[str, str, int] | None = None
    good = broken = 0
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
        except FFmpegError as fault:
            broken += 1
            if broken > good + 3:  # not a stray packet: noise, or a codec that is something else
                raise NotSoundError(_reason(fault)) from fault
            continue
        good += bool(frames)
        for frame in frames:
            before, kind = kind, _kind(frame)
            if before not in (None, kind):  # a resampler takes one kind, a damaged file may have several
                yield from (_samples(part) for part in resampler.resample(None))
                resampler = AudioResampler(format="flt", layout="mono", rate=RATE)
            frame.pts = None  # time stamps with gaps make the resampler refuse what it can very well play
            yield from (_samples(part) for part in resampler.resample(frame))
    if not good:
        raise NotSoundError("there is no sound in it")
    yield from (_samples(part) for part in resampler.resample(None))


def _kind(frame: av.AudioFrame) -> tuple[str, str, int]:
    """Raises NotSoundError for what no sound has."""
    rate, channels = frame.sample_rate, frame.layout.nb_channels
    if (odd := oddity(rate, channels)) is not None:
        raise NotSoundError(odd)
    return frame.format.name, frame.layout.name, rate


def _samples(frame: av.AudioFrame) -> Samples:
    return np.asarray(np.nan_to_num(frame.to_ndarray().reshape(-1)), np.float32)


def _gathered(parts: Iterator[Samples]) -> Iterator[Samples]:
    kept: list[Samples] = []
    for part in parts:
        kept.append(part)
        if sum(map(len, kept)) >= _CHUNK:
            yield np.concatenate(kept)
            kept.clear()
    if kept:
        yield np.concatenate(kept)


def _reason(fault: Exception) -> str:
    return f"{getattr(fault, 'strerror', None) or fault}".strip().rstrip(".").lower()
