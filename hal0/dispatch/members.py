"""Finds chosen top-level members of a JSON object while its bytes arrive, without parsing the rest.

A 64 MiB body would hold the event loop for half a second in any parser; this scanner takes it in slices and only
looks at structure: strings, brackets, commas. Values it was not asked for are stepped over, so what is wrong inside
them is for the engine to say.
"""

import re
from collections.abc import Callable, Collection
from typing import Any, Final

from hal0.lib import jsonio

_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]*")
_STRUCTURE: Final = re.compile(rb'["{}\[\]]')

_QUOTE, _BACKSLASH, _COLON, _COMMA, _OPEN, _CLOSE = b'"\\:,{}'
_OPENING: Final = b"{["
_OPENING_OR_QUOTE: Final = b'"{['

# Names and values that hal0 asks for are short; a longer one is not what it seems.
_MAX_NAME_BYTES: Final = 256
_MAX_VALUE_BYTES: Final = 4096
# JSON allows the same name twice; a body that does it more often is an attack on our memory.
_MAX_REPEATS: Final = 16


class NotJson(ValueError):
    """The bytes are not one JSON object; the text says what was expected and where (byte offset)."""


class Members:
    """Feed it the body in pieces, then `finish()`.

    `spans[name]` lists where the values of a chosen name stand (start, end), byte offsets in the whole body;
    `values[name]` is the last one, decoded, when `decode` is on. `inside` is the offset right after the opening
    brace, `empty` whether the object has no member at all.
    """

    def __init__(self, names: Collection[str], *, decode: bool = True) -> None:
        self.spans: dict[str, list[tuple[int, int]]] = {}
        self.values: dict[str, Any] = {}
        self.inside = 0
        self.empty = True
        self._names = names
        self._decode = decode
        self._step: Callable[[bytes, int], int] = self._begin
        self._seen = 0  # bytes of earlier pieces
        self._held: bytearray | None = None  # of a name or a chosen value that began in an earlier piece
        self._from = 0  # where it goes on in this piece
        self._skip_byte = False  # the piece ended right after a backslash
        self._depth = 0
        self._name: str | None = None  # chosen name whose value comes
        self._start = 0

    def feed(self, piece: bytes) -> None:
        """Raises NotJson as soon as the structure is wrong."""
        i, n = 0, len(piece)
        self._from = 0
        while i < n:
            i = self._step(piece, i)
        if self._held is not None:
            self._hold(piece, n)
        self._seen += n

    def finish(self) -> None:
        """Raises NotJson when the object is not complete."""
        if self._step != self._end:
            raise NotJson(f"the object is not closed at byte {self._seen}" if self._seen else "the body is empty")

    # One method per place in the grammar: it takes a piece and an index, and returns the next index.

    def _begin(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        if i == len(piece):
            return i
        self._expect(piece, i, _OPEN, "an object")
        self.inside = self._seen + i + 1
        self._step = self._first_name
        return i + 1

    def _first_name(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        if i == len(piece):
            return i
        if piece[i] == _CLOSE:
            self._step = self._end
            return i + 1
        self.empty = False
        return self._open_name(piece, i)

    def _next_name(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        return i if i == len(piece) else self._open_name(piece, i)

    def _open_name(self, piece: bytes, i: int) -> int:
        self._expect(piece, i, _QUOTE, "a member name")
        self._held, self._from = bytearray(), i
        self._step = self._in_name
        return i + 1

    def _in_name(self, piece: bytes, i: int) -> int:
        i, closed = self._string(piece, i)
        if closed:
            raw = self._take(piece, i, _MAX_NAME_BYTES)
            name = None if raw is None else self._decoded(raw)
            self._name = name if name in self._names else None
            self._step = self._colon
        return i

    def _colon(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        if i == len(piece):
            return i
        self._expect(piece, i, _COLON, "':'")
        self._step = self._value
        return i + 1

    def _value(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        if i == len(piece):
            return i
        self._start = self._seen + i
        if self._name is not None:
            self._held, self._from = bytearray(), i
        first = piece[i]
        if first in _OPENING_OR_QUOTE:
            self._depth = 1 if first in _OPENING else 0
            self._step = self._nested if self._depth else self._in_string
            return i + 1
        if not _SCALAR.match(piece, i, i + 1).group():  # type: ignore[union-attr]  # it matches the empty string
            raise NotJson(f"expected a value at byte {self._start}")
        self._step = self._scalar
        return i + 1

    def _in_string(self, piece: bytes, i: int) -> int:
        i, closed = self._string(piece, i)
        if closed:
            if self._depth:
                self._step = self._nested
            else:
                self._value_done(piece, i)
        return i

    def _scalar(self, piece: bytes, i: int) -> int:
        i = _SCALAR.match(piece, i).end()  # type: ignore[union-attr]  # it matches the empty string
        if i < len(piece):
            self._value_done(piece, i)
        return i

    def _nested(self, piece: bytes, i: int) -> int:
        found = _STRUCTURE.search(piece, i)
        if found is None:
            return len(piece)
        i = found.end()
        mark = piece[i - 1]
        if mark == _QUOTE:
            self._step = self._in_string
        elif mark in _OPENING:
            self._depth += 1
        else:
            self._depth -= 1
            if not self._depth:
                self._value_done(piece, i)
        return i

    def _after_value(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        if i == len(piece):
            return i
        if piece[i] == _CLOSE:
            self._step = self._end
        else:
            self._expect(piece, i, _COMMA, "',' or '}'")
            self._step = self._next_name
        return i + 1

    def _end(self, piece: bytes, i: int) -> int:
        i = self._space(piece, i)
        if i < len(piece):
            raise NotJson(f"more follows the object at byte {self._seen + i}")
        return i

    # What the places share.

    @staticmethod
    def _space(piece: bytes, i: int) -> int:
        return _SPACE.match(piece, i).end()  # type: ignore[union-attr]  # it matches the empty string

    def _expect(self, piece: bytes, i: int, byte: int, what: str) -> None:
        if piece[i] != byte:
            raise NotJson(f"expected {what} at byte {self._seen + i}")

    def _string(self, piece: bytes, i: int) -> tuple[int, bool]:
        """Go to the end of the string: (index after the closing quote, True), or (end of the piece, False)."""
        if self._skip_byte:
            self._skip_byte = False
            i += 1
        quote = piece.find(_QUOTE, i)
        stop = len(piece) if quote < 0 else quote
        while (escape := piece.find(_BACKSLASH, i, stop)) >= 0:
            i = escape + 2
            if i > len(piece):
                self._skip_byte = True
                return len(piece), False
            if i > stop:  # the quote was the escaped one
                quote = piece.find(_QUOTE, i)
                stop = len(piece) if quote < 0 else quote
        return (len(piece), False) if quote < 0 else (quote + 1, True)

    def _value_done(self, piece: bytes, i: int) -> None:
        if self._name is not None:
            spans = self.spans.setdefault(self._name, [])
            spans.append((self._start, self._seen + i))
            if len(spans) > _MAX_REPEATS:
                raise NotJson(f"the member {self._name!r} is repeated too often")
            raw = self._take(piece, i, _MAX_VALUE_BYTES)
            if self._decode:
                if raw is None:
                    raise NotJson(f"the member {self._name!r} is too long")
                self.values[self._name] = self._decoded(raw)
            self._name = None
        self._step = self._after_value

    def _hold(self, piece: bytes, end: int) -> None:
        """Keep what was seen of the text under way; past the limit only the fact that it is too long."""
        assert self._held is not None
        if len(self._held) <= _MAX_VALUE_BYTES:
            self._held += piece[self._from : min(end, self._from + _MAX_VALUE_BYTES + 1)]

    def _take(self, piece: bytes, end: int, limit: int) -> bytes | None:
        assert self._held is not None
        self._hold(piece, end)
        held, self._held = self._held, None
        return bytes(held) if len(held) <= limit else None

    def _decoded(self, raw: bytes) -> Any:
        try:
            return jsonio.loads(raw)
        except jsonio.JSONDecodeError:
            raise NotJson(f"the value at byte {self._start} is not JSON") from None
