"""Reads what a packed answer says: along with its client, who gets the bytes as they came, or in its stead."""

import zlib
from collections.abc import Callable
from typing import Final

from hal0.dispatch.headers import RawHeaders, get

# What hal0 lets an upstream pack with: what it can read itself.
READABLE: Final = frozenset({"gzip", "x-gzip", "deflate", "identity"})
_EITHER_HEADER: Final = zlib.MAX_WBITS | 32  # gzip's or zlib's: the first bytes say which
# Of one chunk. What becomes so much larger was packed to cost its reader time.
_MOST_BYTES: Final = 1 << 20

Saw = Callable[[bytes], None]


def reading(headers: RawHeaders, saw: Saw) -> Saw:
    """`saw` for the chunks of an answer with these headers: it gets to see what they say, where that can be read."""
    coding = (get(headers, b"content-encoding") or b"identity").strip().lower().decode("latin-1")
    return _Unpacking(saw) if coding in READABLE - {"identity"} else saw


def unpacked(headers: RawHeaders, body: bytes) -> bytes:
    """What a short answer with these headers says; as it came where its packing is none that hal0 reads."""
    read = bytearray()
    reading(headers, read.extend)(body)
    return bytes(read)


class _Unpacking:
    """Stops at its end, or at the first bytes that make no sense: nothing depends on what it reads.

    The decompressor would keep all that comes behind its end.
    """

    def __init__(self, saw: Saw) -> None:
        self._saw = saw
        self._packed = zlib.decompressobj(_EITHER_HEADER)
        self._done = False

    def __call__(self, chunk: bytes) -> None:
        if self._done:
            return
        try:
            read = self._packed.decompress(chunk, _MOST_BYTES)
        except zlib.error:
            read, self._done = b"", True
        if read:
            self._saw(read)
        self._done = self._done or self._packed.eof or bool(self._packed.unconsumed_tail)
