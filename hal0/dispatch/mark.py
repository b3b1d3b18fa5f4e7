"""Puts other bytes in the place of some while an answer passes, wherever its chunks are cut."""


class Mark:
    """One answer: `feed` every chunk, then `end`. What might be the beginning of the needle waits for its rest."""

    def __init__(self, needle: bytes, put: bytes) -> None:
        self._needle = needle
        self._put = put
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can go on; b"" when all of them have to wait (at most a few)."""
        text = self._held + chunk
        cut = len(text) - _begun(text.rpartition(self._needle)[2], self._needle)
        self._held = text[cut:]
        return text[:cut].replace(self._needle, self._put)

    def end(self) -> bytes:
        """What still waited, once."""
        held, self._held = self._held, b""
        return held


def _begun(text: bytes, needle: bytes) -> int:
    """How many of the last bytes are the beginning of the needle."""
    at = text.find(needle[:1], max(len(text) - len(needle) + 1, 0))
    while at >= 0 and not needle.startswith(text[at:]):
        at = text.find(needle[:1], at + 1)
    return len(text) - at if at >= 0 else 0
