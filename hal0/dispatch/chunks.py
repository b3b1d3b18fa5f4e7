"""A chunk of an answer that came alone and whole is known without the parser, and can be passed on as it came. Pure.

That is how engines send their tokens: each as one chunk, in one write. Whatever comes otherwise is the parser's.
"""

from functools import lru_cache
from typing import Final

_END: Final = b"\r\n"
# Beyond, the parser costs nothing beside moving the bytes.
_MOST_BYTES: Final = 4096


def lone_size(data: bytes) -> int:
    """Bytes in the body of the one chunk that `data` is from its first byte to its last; 0: it is anything else.

    Only to be asked between two chunks. The last chunk, which has no body, is anything else.
    """
    if len(data) > _MOST_BYTES:
        return 0
    opening = _opening(len(data))
    return len(data) - len(opening) - len(_END) if data.startswith(opening) and data.endswith(_END) else 0


@lru_cache(maxsize=_MOST_BYTES)
def _opening(size: int) -> bytes:
    """How a chunk begins that has so many bytes in all."""
    for digits in range(1, size):
        body = size - digits - 2 * len(_END)
        if body > 0 and len(b"%x" % body) == digits:
            return b"%x\r\n" % body
    return bytes(size + 1)  # none has; and nothing begins with more than it is
