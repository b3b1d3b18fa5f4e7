"""Replaces or adds top-level members of a JSON body, or fields of a form; every other byte stays what it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hal0.dispatch.form import Form
from hal0.dispatch.members import Members, NotJson
from hal0.lib import jsonio


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace the bytes [start, end) of the original by `put`."""

    start: int
    end: int
    put: bytes


def splices(members: Members, edits: Mapping[str, Any]) -> tuple[Splice, ...]:
    """The cuts that make `edits` true, in the order of their places. Raises NotJson for what cannot be written.

    A name that stands more than once is replaced everywhere: engines differ in which one they believe.
    """
    cuts: list[Splice] = []
    added: list[bytes] = []
    for name, value in edits.items():
        put = _written(value)
        if name in members.spans:
            cuts.extend(Splice(start, end, put) for start, end in members.spans[name])
        else:
            added.append(jsonio.dumps(name) + b":" + put)
    if added:
        text = b",".join(added)
        cuts.append(Splice(members.inside, members.inside, text if members.empty else text + b","))
    return tuple(sorted(cuts, key=lambda cut: cut.start))


def form_splices(form: Form, boundary: bytes, edits: Mapping[str, Any]) -> tuple[Splice, ...]:
    """The same for a form. Values are written as forms have them: text, and anything else as JSON."""
    cuts: list[Splice] = []
    for name, value in edits.items():
        put = value.encode() if isinstance(value, str) else _written(value)
        if name in form.spans:
            cuts.extend(Splice(start, end, put) for start, end in form.spans[name])
        else:
            head = b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n' % (boundary, name.encode())
            cuts.append(Splice(form.inside, form.inside, head + put + b"\r\n"))
    return tuple(sorted(cuts, key=lambda cut: cut.start))


def _written(value: Any) -> bytes:
    """Values may be a client's own words, said otherwise; the parser takes four times the depth that can be written.

    What stands in a list is written by itself: of a large one others would wait for the end.
    """
    try:
        if isinstance(value, list):
            return b"[%b]" % b",".join([jsonio.dumps(each) for each in value])
        return jsonio.dumps(value)
    except jsonio.JSONEncodeError:
        raise NotJson("a value that has to be written anew is nested too deeply") from None


def apply(body: bytes, cuts: tuple[Splice, ...]) -> bytes:
    """The edited body."""
    parts: list[bytes] = []
    at = 0
    for cut in cuts:
        parts += (body[at : cut.start], cut.put)
        at = cut.end
    parts.append(body[at:])
    return b"".join(parts)


def growth(cuts: tuple[Splice, ...]) -> int:
    """By how many bytes the body becomes longer (or, negative, shorter)."""
    return sum(len(cut.put) - (cut.end - cut.start) for cut in cuts)
