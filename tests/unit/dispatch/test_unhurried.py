"""Large bodies as values: the same as any parser's, and others have their turns meanwhile."""

import asyncio
from collections.abc import Awaitable, Iterator
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch import unhurried
from hal0.dispatch.body import Body
from hal0.dispatch.edits import cuts_for, cuts_of, request_of
from hal0.dispatch.rewrite import apply
from hal0.dispatch.unhurried import parsed, value_of
from hal0.errors import Hal0Error
from hal0.lib import jsonio, spread
from hal0.providers.base import Forward

T = TypeVar("T")

FEW: Final = 30_000
DENSE: Final = b'{"n":[' + b",".join([b"[]"] * FEW) + b"]}"

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Nothing is too small to be large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unhurried, "AT_ONCE_BYTES", -1)
        patch.setattr(unhurried, "_PIECE_BYTES", 7)
        patch.setattr(unhurried, "_LONG", 20)
        yield


async def beside(work: Awaitable[T]) -> tuple[T, int]:
    """What it gives, and how many turns of the loop others had meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    try:
        return await work, turns
    finally:
        task.cancel()


@given(values)
def test_it_is_what_any_parser_makes_of_it(value: Any) -> None:
    assert parsed(jsonio.dumps(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"{}{}",
        b"NaN",
        b"[-Infinity]",
        b'"\xff"',
        b'"\xc3',
        b'"\n"',
        b'"\\ud800"',
        b"[" * 5000 + b"]" * 5000,
    ],
)
def test_what_is_no_json_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(data)


def test_a_letter_may_stand_across_two_pieces() -> None:
    for shift in range(4):
        text = "x" * shift + "\U0001f600" * 99
        assert parsed(jsonio.dumps([text, text + "\\"])) == [text, text + "\\"]


async def test_however_it_is_made_others_have_their_turns() -> None:
    value, turns = await beside(value_of(Body(DENSE)))
    assert len(value["n"]) == FEW
    assert turns > 20


async def test_more_values_than_anybody_needs_are_refused_before_they_take_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unhurried, "MOST_VALUES", FEW)
    with pytest.raises(Hal0Error, match=f"more than {FEW} values") as raised:
        await value_of(Body(DENSE))
    assert raised.value.code == "request.too_large"


async def test_a_large_body_is_cut_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count(0.0, 1.0)  # every piece takes longer than a step may
    monkeypatch.setattr(spread, "stopwatch", lambda _loop: partial(next, seconds))
    data = b'{"model":"a","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    cuts, turns = await beside(cuts_for(Body(data), {"model": "b"}))
    assert apply(data, cuts) == data.replace(b'"a"', b'"b"')
    assert turns > 40


async def test_only_what_is_looked_at_is_read() -> None:
    body = Body(DENSE[:-1] + b',"cannot be read":NaN,"format":"x"}')
    assert await request_of(body, ("format", "other")) == {"format": "x"}
    assert await request_of(body, ()) == {}
    cuts = await cuts_of(body, Forward("/p", edits={"model": "m"}), {"format": "y", "model": "n", "top_k": 1})
    assert apply(body.data, cuts).startswith(b'{"model":"m","top_k":1,"n":[[]')
    assert sum(len(cut.put) for cut in cuts) == len(b'"model":"m","top_k":1,')


async def test_a_list_is_written_as_it_would_be_at_once() -> None:
    listed = [{"text": "é"}, None, [1, []], "x"]
    cuts = await cuts_for(Body(b'{"documents":0}'), {"documents": listed, "none": []})
    assert jsonio.loads(apply(b'{"documents":0}', cuts)) == {"documents": listed, "none": []}
