"""Puts a word in front of the engine's `system_fingerprint` while an answer passes, wherever chunks are cut."""

from typing import Final

# As llama-server spells it, without blanks. Inside generated text the quotes are escaped, so it never matches there.
NEEDLE: Final = b'"system_fingerprint":"'


class Mark:
    """One answer: `feed` every chunk, then `end`. What might be the beginning of NEEDLE waits for its rest."""

    def __init__(self, word: str) -> None:
        self._marked = NEEDLE + word.encode() + b" "
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can go on; b"" when all of them have to wait (at most a few)."""
        text = self._held + chunk
        cut = len(text) - _begun(text.rpartition(NEEDLE)[2])
        self._held = text[cut:]
        return text[:cut].replace(NEEDLE, self._marked)

    def end(self) -> bytes:
        """What still waited, once."""
        held, self._held = self._held, b""
        return held


def _begun(text: bytes) -> int:
    """How many of the last bytes are the beginning of NEEDLE."""
    at = text.find(NEEDLE[:1], max(len(text) - len(NEEDLE) + 1, 0))
    while at >= 0 and not NEEDLE.startswith(text[at:]):
        at = text.find(NEEDLE[:1], at + 1)
    return len(text) - at if at >= 0 else 0
