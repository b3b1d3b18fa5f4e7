"""A body as a value, for requests that have to be read to be answered; others go on meanwhile, however it is made.

A parser in C holds the interpreter from the first byte to the last, in a thread too: a second for a few megabytes of
empty lists. So what is large is taken apart in Python, in a thread, which lets others in between a few values. Only
copying a text is one step, however long: some milliseconds for a picture, a tenth of a second for all of 64 MiB.
"""

import asyncio
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from json.decoder import JSONArray, JSONDecoder, JSONObject, scanstring  # type: ignore[attr-defined]  # in Python, and not announced
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from threading import Event
from typing import Any, Final, TypeAlias, TypeVar

from hal0.dispatch.body import Body
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.lib.spread import OnePerLoop

T = TypeVar("T")

# Up to here one parser call is quicker: a millisecond, some more for what is made to be slow.
AT_ONCE_BYTES: Final = 256 * 1024
# Enough for 50 000 documents, and for no more memory than the text of a large body takes.
MOST_VALUES: Final = 250_000
_BETWEEN: Final = 128  # values: some tenths of a millisecond
_PIECE_BYTES: Final = 256 * 1024  # decoded at a time
_LONG: Final = 64 * 1024  # letters of a text; the library looks at them one by one

_APART: Final = OnePerLoop()

_Scan: TypeAlias = Callable[[str, int], tuple[Any, int]]


async def value_of(body: Body) -> Any:
    """Raises as `parsed` and `apart`."""
    return await apart(parsed, body)


async def apart(work: Callable[[bytes | bytearray, Event], T], body: Body) -> T:
    """What the work, which does with `parsed` what it likes, makes of all of the body.

    A large one waits for those before it, and its thread does not outlive the wish. Raises state.write_failed.
    """
    given_up = Event()
    if body.in_memory and body.size <= AT_ONCE_BYTES:
        return work(body.data, given_up)
    async with _APART.here:
        data, at = bytearray(body.size), 0
        async for piece in body.pieces():  # put together as it comes: joining 64 MiB takes long
            data[at : at + len(piece)] = piece
            at += len(piece)
        try:
            return await asyncio.to_thread(work, data, given_up)
        finally:
            given_up.set()


def parsed(data: bytes | bytearray, given_up: Event | None = None) -> Any:
    """Beyond AT_ONCE_BYTES it is slow, and for a thread.

    Raises ValueError for what is no JSON, and request.too_large for a large one with more than MOST_VALUES.
    """
    if len(data) <= AT_ONCE_BYTES:
        return jsonio.loads(data)
    try:
        return _Decoder(given_up or Event()).decode(_text(data))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _text(data: bytes | bytearray) -> str:
    decoder, view = getincrementaldecoder("utf-8")(), memoryview(data)
    pieces = [decoder.decode(view[at : at + _PIECE_BYTES]) for at in range(0, len(view), _PIECE_BYTES)]
    return "".join([*pieces, decoder.decode(b"", final=True)])


class _Decoder(JSONDecoder):
    """The standard library's, with every value counted; only single texts and numbers are C's."""

    def __init__(self, given_up: Event) -> None:
        super().__init__(parse_constant=_no_constant)
        self._given_up = given_up
        self._left = MOST_VALUES
        self._counting: _Scan | None = None
        self.parse_string = _string
        self.parse_array = lambda at, scan: JSONArray(at, self._counted(scan))
        self.parse_object = lambda at, strict, scan, *rest: JSONObject(at, strict, self._counted(scan), *rest)
        self.scan_once = py_make_scanner(self)

    def _counted(self, scan: _Scan) -> _Scan:
        """The library hands the same one down to every depth."""
        if self._counting is None:

            def counting(text: str, at: int) -> tuple[Any, int]:
                self._left -= 1
                if self._left < 0:
                    raise _too_many()
                if not self._left % _BETWEEN:
                    time.sleep(0)  # whoever waits for the interpreter gets it now
                    if self._given_up.is_set():
                        raise ValueError("nobody waits for it any more")
                return scan(text, at)

            self._counting = counting
        return self._counting


def _string(text: str, at: int, strict: bool = True) -> tuple[str, int]:
    """A long one without an escape, as files are, is cut out where it ends."""
    end = text.find('"', at)
    if end - at > _LONG and text.find("\\", at, end) < 0:
        return text[at:end], end + 1
    found: tuple[str, int] = scanstring(text, at, strict)
    if not found[0].isascii():
        found[0].encode()  # raises for half a letter, which only an escape can make
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _too_many() -> Hal0Error:
    message = f"cannot read the body: it holds more than {MOST_VALUES} values"
    return Hal0Error("request.too_large", message, details={"limit_values": MOST_VALUES})
