"""The scanner finds what a parser would find, wherever the pieces are cut."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch.members import Members, NotJson
from hal0.dispatch.rewrite import apply, growth, splices
from hal0.lib import jsonio

NAMES = frozenset({"model", "stream"})


def scan(body: bytes, cuts: list[int] | None = None, *, decode: bool = True) -> Members:
    members = Members(NAMES, decode=decode)
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts or [])})
    for start, end in pairwise(places):
        members.feed(body[start:end])
    members.finish()
    return members


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(["model", "stream", "a", 'q"\\', "\u00e9", ""]), JSON, max_size=6)
CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(OBJECTS, CUTS, st.booleans())
def test_it_agrees_with_a_parser_at_any_cut(value: dict[str, Any], cuts: list[int], pretty: bool) -> None:
    body = jsonio.dumps_pretty(value) if pretty else jsonio.dumps(value)
    members = scan(body, cuts)
    assert members.values == {name: value[name] for name in NAMES & set(value)}
    assert members.empty is (not value)
    for name, spans in members.spans.items():
        ((start, end),) = spans
        assert jsonio.loads(body[start:end]) == value[name]


@given(OBJECTS, OBJECTS.map(lambda edits: {k: v for k, v in edits.items() if k in NAMES}), CUTS)
def test_edits_change_the_members_and_nothing_else(
    value: dict[str, Any], edits: dict[str, Any], cuts: list[int]
) -> None:
    body = b" \n" + jsonio.dumps_pretty(value)
    made = splices(scan(body, cuts, decode=False), edits)
    edited = apply(body, made)
    assert jsonio.loads(edited) == value | edits
    assert len(edited) == len(body) + growth(made)
    if not edits:
        assert edited == body


def test_an_escaped_name_is_the_same_name() -> None:
    assert scan(b'{"mod\\u0065l":"x"}').values == {"model": "x"}


def test_a_name_inside_a_value_is_not_a_member() -> None:
    body = b'{"a":{"model":"no"},"b":["model"],"c":"\\"model\\":\\"no\\""}'
    assert scan(body).values == {}


@pytest.mark.parametrize("at", range(1, 30))
def test_backslashes_at_the_cut_do_not_hide_the_end_of_a_string(at: int) -> None:
    assert scan(b'{"a":"\\\\\\"x\\\\","model":"m\\\\"}', [at]).values == {"model": "m\\"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"  ", "not closed"),
        (b"[]", "an object at byte 0"),
        (b'{"a":1', "not closed"),
        (b'{"a" 1}', "':' at byte 5"),
        (b'{"a":1,}', "a member name at byte 7"),
        (b"{a:1}", "a member name at byte 1"),
        (b'{"a":}', "a value at byte 5"),
        (b'{"a":1 2}', "at byte 7"),
        (b'{"a":1}x', "more follows the object at byte 7"),
        (b'{"model":nope}', "not JSON"),
        (b'{"model":"' + b"x" * 5000 + b'"}', "too long"),
        (b"{" + b'"model":1,' * 20 + b'"a":1}', "repeated too often"),
    ],
)
def test_what_is_not_an_object_is_refused_with_the_place(body: bytes, why: str) -> None:
    with pytest.raises(NotJson, match=why):
        scan(body)


def test_long_names_and_values_are_not_kept() -> None:
    body = b'{"' + b"n" * 100_000 + b'":"' + b"v" * 100_000 + b'","model":"m"}'
    assert scan(body, list(range(0, 200_000, 4096))).values == {"model": "m"}
