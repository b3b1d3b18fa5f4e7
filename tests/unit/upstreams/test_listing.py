"""Model lists as servers really send them, and as they should not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.config.upstreams import UpstreamConfig
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.upstreams.listing import MOST_MODELS, declared, parse
from hal0.vocab import Capability


def config(**fields: Any) -> UpstreamConfig:
    return UpstreamConfig.model_validate({"base_url": "http://far.example/v1", **fields})


def answer(*entries: Any) -> bytes:
    return jsonio.dumps({"object": "list", "data": list(entries)})


def test_prefix_in_front_and_their_own_name_kept() -> None:
    (model,) = parse(answer({"id": "openai/gpt-4o", "context_length": 128000}), config(prefix="far/"))
    assert (model.id, model.theirs, model.context_length) == ("far/openai/gpt-4o", "openai/gpt-4o", 128000)


def test_an_allow_list_lets_only_its_own_through() -> None:
    found = parse(answer({"id": "a"}, {"id": "b"}), config(models=["b", "c"]))
    assert [model.id for model in found] == ["b"]
    assert [model.id for model in declared(config(models=["b", "c"], prefix="x-"))] == ["x-b", "x-c"]


@pytest.mark.parametrize(
    "entry",
    [
        7,
        None,
        "gpt",
        [],
        {},
        {"id": 5},
        {"id": ""},
        {"id": "a b"},
        {"id": "a\r\nb"},
        {"id": "x" * 257},
        {"id": "\u2028"},
    ],
)
def test_an_entry_that_is_no_model_hides_no_other(entry: Any) -> None:
    assert [model.id for model in parse(answer(entry, {"id": "good"}), config())] == ["good"]


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": null}', b'"data"', b"\xff"])
def test_garbage_is_a_typed_error(text: bytes) -> None:
    with pytest.raises(Hal0Error) as raised:
        parse(text, config())
    assert raised.value.code == "upstream.broken"


def test_an_endless_list_has_an_end_and_a_doubled_model_is_one() -> None:
    assert len(parse(answer(*({"id": f"m{n}"} for n in range(MOST_MODELS + 5))), config())) == MOST_MODELS
    assert len(parse(answer({"id": "m"}, {"id": "m"}), config())) == 1


def test_only_another_hal0_is_believed_about_capabilities() -> None:
    entry = {"id": "m", "capabilities": ["embed", "telepathy", 5], "max_model_len": 4096}
    (theirs,) = parse(answer(entry), config(kind="hal0"))
    (other,) = parse(answer(entry), config())
    assert theirs.capabilities == {Capability.EMBED}
    assert other.capabilities == frozenset()
    assert theirs.context_length == 4096


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "data", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_answer_is_a_list_or_a_typed_error(value: Any) -> None:
    try:
        text = jsonio.dumps(value)
    except TypeError:  # integers beyond 64 bits are no JSON of this codec
        return
    try:
        found = parse(text, config())
    except Hal0Error as error:
        found, code = (), error.code
    else:
        code = "upstream.broken"
    assert code == "upstream.broken"
    assert all(model.id.isprintable() for model in found)
