"""Sound as the files and streams that clients ask for; every encoder takes pieces and gives what is ready."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from speech.backend import RATE, Samples

_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
_HEADER: Final = 44  # bytes of a WAV file before its samples


class Encoder(Protocol):
    def feed(self, samples: Samples) -> bytes:
        """What can be sent now; may be empty."""
        ...

    def finish(self) -> bytes:
        """What is left."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    content_type: str
    encoder: Callable[[], Encoder]


class Pcm:
    """Signed 16 bit, little-endian."""

    def feed(self, samples: Samples) -> bytes:
        return (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()

    def finish(self) -> bytes:
        return b""


class Wav(Pcm):
    """PCM behind a header that says, as long as nobody knows, that the length is unknown."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, samples: Samples) -> bytes:
        header = b"" if self._begun else _wav_header(None)
        self._begun = True
        return header + super().feed(samples)


class Compressed:
    """FFmpeg's encoders. Frames leave as soon as they are full, so that a listener hears what has been said."""

    def __init__(self, container: str, codec: str, rate: int, bits_per_s: int | None, options: dict[str, str]) -> None:
        import av  # the largest library here, and WAV and PCM need nothing of it

        self._av = av
        self._out = bytearray()
        # PyAV needs no more than a write method; without seeking, no muxer can go back to its header.
        self._container = av.open(self, "w", format=container, options={"flush_packets": "1", **options})
        self._stream = self._container.add_stream(codec, rate=rate, layout="mono")
        if bits_per_s is not None:
            self._stream.bit_rate = bits_per_s
        self._resampler = av.AudioResampler(self._stream.format, "mono", rate, frame_size=self._frame_size())

    def _frame_size(self) -> int | None:
        self._stream.codec_context.open()
        return self._stream.codec_context.frame_size or None

    def write(self, data: bytes) -> int:
        """Called by the muxer."""
        self._out += data
        return len(data)

    def feed(self, samples: Samples) -> bytes:
        frame = self._av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = RATE
        frame.pts = None
        self._encode(frame)
        return self._taken()

    def finish(self) -> bytes:
        self._encode(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._taken()

    def _encode(self, frame: object) -> None:
        for whole in self._resampler.resample(frame):
            whole.pts = None
            self._container.mux(self._stream.encode(whole))

    def _taken(self) -> bytes:
        data, self._out = bytes(self._out), bytearray()
        return data


def _compressed(
    container: str, codec: str, *, rate: int = RATE, bits_per_s: int | None = None, **options: str
) -> Callable[[], Encoder]:
    return lambda: Compressed(container, codec, rate, bits_per_s, options)


FORMATS: Final = {
    made.name: made
    for made in (
        # The header that is left out counts the frames, and can only be written at the end.
        Format("mp3", "audio/mpeg", _compressed("mp3", "libmp3lame", bits_per_s=64_000, write_xing="0")),
        Format(
            "opus", "audio/ogg", _compressed("ogg", "libopus", rate=48_000, bits_per_s=48_000, page_duration="200000")
        ),
        Format("aac", "audio/aac", _compressed("adts", "aac", bits_per_s=64_000)),
        Format("flac", "audio/flac", _compressed("flac", "flac")),
        Format("wav", "audio/wav", Wav),
        Format("pcm", "audio/pcm", Pcm),
    )
}


def with_true_length(format_: Format, whole: bytes) -> bytes:
    """A whole WAV says how long it is; the other formats need not, or cannot."""
    if format_.name != "wav":
        return whole
    return _wav_header(len(whole) - _HEADER) + whole[_HEADER:]


def _wav_header(size: int | None) -> bytes:
    """`size` in bytes of samples; None: nobody knows."""
    riff, data = (_UNKNOWN_LENGTH, _UNKNOWN_LENGTH) if size is None else (size + _HEADER - 8, size)
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, RATE * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + layout + struct.pack("<4sI", b"data", data)
