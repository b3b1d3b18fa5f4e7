"""What Cohere's and Jina's clients send to be ranked, and what they get back."""

import json
from typing import Any

import pytest

from hal0.providers.base import Forward, InferRequest
from hal0.providers.llamacpp import LlamaCpp
from hal0.vocab import Capability

BOOKS: Any = [{"title": "Rivers", "text": "of water", "year": 1999}, "stones", {"title": "Seas", "text": "of salt"}]
SERVERS = b'{"model":"m","results":[{"index":2,"relevance_score":1.5},{"index":1,"relevance_score":-2}]}'


def forward() -> Forward:
    return LlamaCpp().infer(InferRequest("/rerank", Capability.RERANK, "tiny-rerank", stream=False))


@pytest.mark.parametrize(
    ("documents", "fields", "sent"),
    [
        (["a", "b"], None, None),
        (BOOKS, None, ["of water", "stones", "of salt"]),
        (BOOKS, ["title", "text"], ["Rivers\nof water", "stones", "Seas\nof salt"]),
        (BOOKS, ["year", ["title"], None], [BOOKS[0], "stones", BOOKS[2]]),  # none of it is a text
        ([{"image": "x"}, 7], None, [{"image": "x"}, 7]),  # for the server to refuse
        ("a", None, None),
        (None, None, None),
    ],
)
def test_documents_to_rank_become_plain_texts(documents: Any, fields: Any, sent: Any) -> None:
    revise = forward().revise
    assert revise is not None
    edits = revise({"query": "q", "documents": documents, "rank_fields": fields})
    assert edits == ({} if sent is None else {"documents": sent})


def answered(request: dict[str, Any], answer: bytes = SERVERS) -> Any:
    convert = forward().convert
    assert convert is not None
    return convert({"query": "q", "documents": BOOKS, **request}, answer)


def test_who_asks_for_the_documents_gets_them_as_they_were_sent() -> None:
    results = json.loads(answered({"return_documents": True}))["results"]
    assert results == [
        {"index": 2, "relevance_score": 1.5, "document": BOOKS[2]},
        {"index": 1, "relevance_score": -2, "document": {"text": "stones"}},
    ]


@pytest.mark.parametrize("asked", [{}, {"return_documents": False}, {"return_documents": None}])
def test_who_does_not_gets_the_servers_own_bytes(asked: dict[str, Any]) -> None:
    assert answered(asked) is SERVERS


@pytest.mark.parametrize(
    "odd", [b"not json", b"[]", b"[7]", b"{}", b'{"results":[7]}', b'{"results":[{"index":3}]}', b'{"results":[{}]}']
)
def test_an_answer_of_another_shape_passes_as_it_is(odd: bytes) -> None:
    assert answered({"return_documents": True}, odd) is odd
