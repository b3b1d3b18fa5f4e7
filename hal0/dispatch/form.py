"""Finds chosen fields of a multipart/form-data body while its bytes arrive, without keeping the rest.

Routing rests on what is found here, and the engine reads the same bytes with a reader of its own: a body that two
readers could take for two different forms is refused. So this one takes what clients write, and not all that old
standards allow.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from hal0.providers.base import Part

# RFC 2046: 1 to 70 of these, the last one no space. Many clients leave out the quotes that some of them need.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
_PARAMETER: Final = re.compile(r'\s*;\s*([!#$%&+^_`|~0-9A-Za-z.-]+\*?)=(?:"((?:[^"\\\r\n]|\\[^\r\n])*)"|([^\s;"]+))')
_FORM: Final = re.compile(r"\s*form-data(?=\s*;|\s*\Z)", re.IGNORECASE)
_FORM_DATA: Final = re.compile(r"\s*multipart/form-data(?=\s*;|\s*\Z)", re.IGNORECASE)
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)\Z")
# Of a part: its bytes as they are.
_PLAIN: Final = frozenset({"7bit", "8bit", "binary"})

_END: Final = b"\r\n\r\n"
_MAX_HEADER_BYTES: Final = 16 * 1024
_MAX_VALUE_BYTES: Final = 4096
_MAX_PARTS: Final = 1000  # images and their fields are some tens


class NotForm(ValueError):
    """The bytes are not one form that everybody reads alike; the text says why."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises NotForm."""
    kind = _FORM_DATA.match(content_type)
    if kind is None:
        raise NotForm("its Content-Type is not multipart/form-data")
    found = [value for name, value in _parameters(content_type, kind.end()) if name == "boundary"]
    if len(found) != 1:
        raise NotForm(f"its Content-Type names {len(found) or 'no'} {'boundaries' if found else 'boundary'}")
    if not _BOUNDARY.match(found[0]):
        raise NotForm("its boundary is not 1 to 70 of the characters that one may have")
    return found[0].encode("ascii")


class Form:
    """Feed it the body in pieces, then `finish()`.

    `spans[name]` lists where the value of a chosen field stands (start, end), byte offsets in the whole body;
    `values[name]` is its text. `inside` is where a part of one's own may be put, before all others.
    """

    def __init__(self, boundary: bytes, names: Collection[str]) -> None:
        self.spans: dict[str, list[tuple[int, int]]] = {}
        self.values: dict[str, str] = {}
        self.inside = 0
        self._mark = b"--" + boundary
        self._after_lf, self._after_cr = b"\n" + self._mark, b"\r" + self._mark
        self._names = names
        self._step: Callable[[], bool] = self._begin
        self._data = b""  # what no step was done with, and the newest piece
        self._i = 0  # up to here in it all is done
        self._seen = 0  # bytes of the body before it
        self._parts = 0
        self._name: str | None = None  # chosen field whose value comes
        self._start = 0  # of the content under way, in the whole body
        self._value = bytearray()

    def feed(self, piece: bytes) -> None:
        """Raises NotForm as soon as something is wrong."""
        self._seen += self._i
        self._data = self._data[self._i :] + piece
        self._i = 0
        while self._step():
            pass

    def finish(self) -> None:
        """Raises NotForm when the form is not complete."""
        if self._step != self._over:
            raise NotForm("it ends before its last boundary" if self._seen or self._data else "it is empty")

    # One method per place in the grammar: whether it is done, and the next one may look.

    def _begin(self) -> bool:
        """The first boundary, on the first line; some clients put an empty line before it."""
        if len(self._data) < len(self._mark) + 2:
            return False
        start = 2 if self._data.startswith(b"\r\n") else 0
        if not self._data.startswith(self._mark, start):
            raise NotForm("it does not begin with its boundary")
        self.inside = start
        return self._go_on(start + len(self._mark), self._after_mark)

    def _after_mark(self) -> bool:
        end = self._data[self._i : self._i + 2]
        if len(end) < 2:
            return False
        if end == b"--":
            return self._go_on(self._i + 2, self._over)
        if end == b"\r\n":
            return self._go_on(self._i + 2, self._headers)
        raise NotForm(f"a boundary does not end its line at byte {self._here}")

    def _headers(self) -> bool:
        if self._data.startswith(b"\r\n", self._i):
            raise NotForm(f"a part has no headers at byte {self._here}")
        end = self._data.find(_END, self._i, self._i + _MAX_HEADER_BYTES)
        if end < 0:
            if len(self._data) - self._i >= _MAX_HEADER_BYTES:
                raise NotForm(f"the headers of a part have no end at byte {self._here}")
            return False
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise NotForm(f"it has more than {_MAX_PARTS} parts")
        self._name = _field(self._data[self._i : end], self._names)
        if self._name in self.spans:
            raise NotForm(f"it names {self._name!r} more than once")
        self._go_on(end + len(_END), self._content)
        self._start = self._here
        return True

    def _content(self) -> bool:
        """Up to the next boundary; what could still become one is kept for the next piece."""
        if self._here == self._start and self._data.startswith(self._mark, self._i):
            raise NotForm(f"a boundary has no line of its own at byte {self._here}")
        lf, cr = self._data.find(self._after_lf, self._i), self._data.find(self._after_cr, self._i)
        if cr >= 0 or (lf >= 0 and not self._data.endswith(b"\r", self._i, lf)):
            raise NotForm(f"a boundary stands behind half a line's end at byte {self._seen + max(cr, lf)}")
        if lf < 0:
            end = max(len(self._data) - len(self._mark) - 1, self._i)
            self._take(end)
            self._i = end
            return False
        self._take(lf - 1)
        self._close_field(self._seen + lf - 1)
        return self._go_on(lf + len(self._after_lf), self._after_mark)

    def _over(self) -> bool:
        if self._data[self._i :].strip(b"\r\n"):
            raise NotForm(f"more follows its last boundary at byte {self._here}")
        self._i = len(self._data)
        return False

    # What the places share.

    @property
    def _here(self) -> int:
        return self._seen + self._i

    def _go_on(self, i: int, step: Callable[[], bool]) -> bool:
        self._i, self._step = i, step
        return True

    def _take(self, end: int) -> None:
        """The content up to here, of a chosen field; any other is only passed by."""
        if self._name is None:
            return
        self._value += self._data[self._i : min(end, self._i + _MAX_VALUE_BYTES + 1)]
        if len(self._value) > _MAX_VALUE_BYTES:
            raise NotForm(f"its {self._name!r} is too long")

    def _close_field(self, end: int) -> None:
        if self._name is None:
            return
        self.spans[self._name] = [(self._start, end)]
        try:
            self.values[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise NotForm(f"its {self._name!r} is not UTF-8") from None
        self._value.clear()


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """All parts of a body that a `Form` has read to its end without complaint. Raises NotForm."""
    mark = b"--" + boundary
    chunks = (b"\r\n" + body[body.find(mark) :]).split(b"\r\n" + mark)
    parts = []
    for chunk in chunks[1:-1]:
        block, _, data = chunk[2:].partition(_END)
        said = _said(_headers(block))
        parts.append(Part(said["name"], said.get("filename", said.get("filename*")), data))
    return parts


def _field(block: bytes, names: Collection[str]) -> str | None:
    """The chosen field that a part with these headers is; None for any other part."""
    headers = _headers(block)
    said = _said(headers)
    name = said["name"]
    if name not in names:
        return None
    if "filename" in said or "filename*" in said:
        raise NotForm(f"its {name!r} is a file")
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in _PLAIN:
        raise NotForm(f"its {name!r} is encoded")
    return name


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in block.split(b"\r\n"):
        header = _HEADER.match(line)
        if header is None:
            raise NotForm("a part has a header that is none")
        name = header[1].decode("ascii").lower()
        if name in headers:
            raise NotForm(f"a part has more than one {name}")
        headers[name] = header[2].decode("utf-8", "replace")
    return headers


def _said(headers: Mapping[str, str]) -> dict[str, str]:
    """The parameters of its Content-Disposition: `name` is among them."""
    disposition = headers.get("content-disposition", "")
    kind = _FORM.match(disposition)
    parameters = _parameters(disposition, kind.end()) if kind else []
    known = dict(parameters)
    if "name" not in known or "name*" in known or len(known) != len(parameters):
        raise NotForm("a part does not say once, as form-data, which field it is")
    if "\\" in known["name"]:
        raise NotForm("the name of a field has a backslash, which not everybody reads alike")
    return known


def _parameters(text: str, at: int) -> list[tuple[str, str]]:
    """The parameters from `at` on, names in lower case. Raises NotForm for what is not one."""
    found = []
    while text[at:].strip(" \t;"):
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            raise NotForm("a header has a parameter that is none")
        quoted = parameter[2]
        found.append((parameter[1].lower(), parameter[3] if quoted is None else quoted))
        at = parameter.end()
    return found
