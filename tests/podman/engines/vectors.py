"""Vectors and rankings: what the clients of OpenAI, Cohere and Jina get from llama.cpp."""

import asyncio
import base64
import struct
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import cohere
import openai
import pytest

from tests.podman.engines.world import World

RIVERS: Final = ["a river", "a mountain", "the sea and the river", "a stone"]
# A classifier over a pair's vector, as bge has it, and a language model that says yes or no, as Qwen3 has it.
RANKERS: Final = ("embed-rerank", "judge")
PATHS: Final = ("/v1/rerank", "/v1/reranking", "/v1/rerankings", "/rerank", "/v2/rerank")


async def embeds_in_both_formats(world: World) -> None:
    async with world.openai() as client:
        plain = await client.embeddings.create(model="embed", input=RIVERS, encoding_format="float")
        unsaid = await client.embeddings.create(model="embed", input=RIVERS)
        assert plain.usage.prompt_tokens == unsaid.usage.prompt_tokens > 0
        for one, other in zip(plain.data, unsaid.data, strict=True):
            assert _far(one.embedding, other.embedding) < 1e-6
    body = {"model": "embed", "input": "a river", "encoding_format": "base64"}
    async with aiohttp.ClientSession(world.url) as session, session.post("/v1/embeddings", json=body) as answer:
        packed = base64.b64decode((await answer.json())["data"][0]["embedding"])
    assert _far(struct.unpack(f"<{len(packed) // 4}f", packed), plain.data[0].embedding) < 1e-6


async def embeds_lists_in_their_order(world: World) -> None:
    async with world.openai() as client:

        async def embed(given: Any) -> list[list[float]]:
            answer = await client.embeddings.create(model="embed", input=given, encoding_format="float")
            assert [item.index for item in answer.data] == list(range(len(answer.data)))
            return [item.embedding for item in answer.data]

        many = [f"{text} {number}" for number in range(16) for text in RIVERS]
        together, turned = await asyncio.gather(embed(many), embed(many[::-1]))
        assert len(together) == 64
        for one, other in zip(together, turned[::-1], strict=True):
            assert _far(one, other) < 1e-3
        river, mountain, sea, _ = await embed(RIVERS)
        assert _far(river, sea) < _far(river, mountain), "texts that share words are nearer"
        await asyncio.gather(*(embed(RIVERS) for _ in range(8)))
        with pytest.raises(openai.BadRequestError):
            await embed([])


def _far(one: Sequence[float], other: Sequence[float]) -> float:
    assert len(one) == len(other) > 8
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


async def ranks_for_cohere(world: World) -> None:
    objects = [{"text": text, "shelf": number} for number, text in enumerate(RIVERS)]
    async with (
        cohere.AsyncClientV2(base_url=world.url, api_key="none") as second,
        cohere.AsyncClient(base_url=world.url, api_key="none") as first,
    ):
        for model in RANKERS:
            plain = await second.rerank(model=model, query="a river", documents=RIVERS)
            order = [result.index for result in plain.results]
            scores = [result.relevance_score for result in plain.results]
            assert sorted(order) == list(range(len(RIVERS)))
            assert scores == sorted(scores, reverse=True)
            assert len(set(scores)) == len(scores), "it ranks"
            assert model != "judge" or 0 < scores[-1] < scores[0] < 1, "how likely a yes is"
            for documents in (RIVERS, objects):
                ranked = await first.rerank(model=model, query="a river", documents=documents, top_n=3)
                assert [result.index for result in ranked.results] == order[:3]
                assert {result.document for result in ranked.results} == {None}
            told = await first.rerank(model=model, query="a river", documents=objects, return_documents=True)
            assert [result.document.dict() for result in told.results if result.document] == [
                objects[number] for number in order
            ]
            fields = [{"title": text, "text": "the same"} for text in RIVERS]
            by_title = await first.rerank(model=model, query="a river", documents=fields, rank_fields=["title"])
            assert [result.index for result in by_title.results] == order


async def ranks_for_jina_by_every_path(world: World) -> None:
    """What Jina's and everybody's HTTP clients send; it has no client of its own."""
    body = {"query": "a river", "documents": RIVERS, "top_n": 2, "return_documents": True}
    async with aiohttp.ClientSession(world.url) as session:

        async def rank(path: str, **more: Any) -> Any:
            async with session.post(path, json={**body, **more}) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        ways = [await rank(path) for path in PATHS]  # without a model: the reranker's
        assert len({str(way["results"]) for way in ways}) == 1
        for result in ways[0]["results"]:
            assert result["document"] == {"text": RIVERS[result["index"]]}
        assert (ways[0]["model"], ways[0]["object"]) == ("tiny-rerank", "list")
        assert ways[0]["usage"]["total_tokens"] > 0
        assert len(ways[0]["results"]) == 2
        bare = await rank("/v1/rerank", return_documents=False, top_n=None)
        assert len(bare["results"]) == len(RIVERS)
        assert "document" not in bare["results"][0]
        whole = await rank("/v1/rerank", model="tiny-judge", documents=RIVERS * 50, top_n=500)
        assert {result["index"] for result in whole["results"]} == set(range(200))
        single = await rank("/v1/rerank", documents=["a river"])
        assert len(single["results"]) == 1
        wrongs: list[dict[str, Any]] = [{"documents": []}, {"documents": [{"image": "x"}]}, {"documents": [7]}]
        for wrong in (*wrongs, {"query": None}):
            async with session.post("/v1/rerank", json={**body, **wrong}) as answer:
                assert answer.status == 400, (wrong, await answer.text())
                assert (await answer.json())["error"]["message"]


async def ranks_for_eight_at_once(world: World) -> None:
    async with cohere.AsyncClientV2(base_url=world.url, api_key="none") as client:

        async def rank(count: int) -> None:
            documents = [f"document {number}" for number in range(count)]
            answer = await client.rerank(model="embed-rerank", query="river", documents=documents, top_n=count)
            scores = [result.relevance_score for result in answer.results]
            assert scores == sorted(scores, reverse=True)
            assert {result.index for result in answer.results} == set(range(count))

        await asyncio.gather(*map(rank, (1, 200) * 4))
