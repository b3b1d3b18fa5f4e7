"""A llama-server's trial: which work it is given, and what counts as done."""

from typing import Any

import pytest
from aiohttp import ClientConnectorError, ClientSession, web
from aiohttp.test_utils import TestServer

from hal0.providers.base import Endpoint, Trial
from hal0.providers.llamacpp import LlamaCpp
from hal0.providers.llamacpp_trial import work_of
from hal0.vocab import Capability

CHAT, EMBED, RERANK = (
    frozenset({Capability.CHAT, Capability.COMPLETION}),
    frozenset({Capability.EMBED}),
    frozenset({Capability.RERANK}),
)
TOKEN = {"choices": [{"text": ""}], "usage": {"completion_tokens": 1}}


@pytest.mark.parametrize(
    ("trial", "path"),
    [
        (Trial("m", CHAT), "/v1/completions"),
        (Trial("m", EMBED), "/v1/embeddings"),
        (Trial("m", RERANK), "/v1/rerank"),
        (Trial("m", EMBED, ("--reranking",)), "/v1/rerank"),
        (Trial("m", EMBED | RERANK), "/v1/embeddings"),
    ],
)
def test_it_is_given_the_work_that_it_was_started_for(trial: Trial, path: str) -> None:
    assert work_of(trial)[0] == path


@pytest.mark.parametrize(
    ("capabilities", "status", "answer", "wrong"),
    [
        (CHAT, 200, TOKEN, None),
        (CHAT, 200, {"choices": [], "usage": {"completion_tokens": 0}}, "nothing that it was asked for"),
        (CHAT, 200, {"error": "inside"}, "nothing that it was asked for"),
        (CHAT, 200, "words", "nothing that it was asked for"),
        (CHAT, 500, {"error": "no GPU"}, "answers 500"),
        (EMBED, 200, {"data": [{"embedding": [0.1, 2]}]}, None),
        (EMBED, 200, {"data": [{"embedding": [None]}]}, "nothing that it was asked for"),
        (EMBED, 200, {"data": []}, "nothing that it was asked for"),
        (RERANK, 200, {"results": [{"relevance_score": -3.5}]}, None),
        (RERANK, 200, {"results": [{"relevance_score": None}]}, "nothing that it was asked for"),
    ],
)
async def test_what_counts_as_work(
    capabilities: frozenset[Capability], status: int, answer: Any, wrong: str | None
) -> None:
    asked: list[Any] = []

    async def work(request: web.Request) -> web.Response:
        asked.append((await request.json())["model"])
        assert request.headers["Authorization"] == "Bearer s"
        return web.json_response(answer, status=status)

    app = web.Application()
    app.router.add_post("/v1/{rest:.*}", work)
    async with TestServer(app) as server, ClientSession() as session:
        where = Endpoint("127.0.0.1", server.port or 0, "s")
        found = await LlamaCpp().verify(where, Trial("m", capabilities), session)
    assert asked == ["m"]
    assert (found is None) if wrong is None else (found is not None and wrong in found)


async def test_nobody_there_is_an_error_of_the_connection(free_port: int) -> None:
    async with ClientSession() as session:
        with pytest.raises(ClientConnectorError):
            await LlamaCpp().verify(Endpoint("127.0.0.1", free_port, "s"), Trial("m", CHAT), session)
