"""What the unmodified clients get from a hal0 whose `primary`, `embed` and `embed-rerank` the real engine serves."""

import asyncio
from typing import Any

import aiohttp
import anthropic
import cohere
import openai
import pytest

HELLO: Any = [{"role": "user", "content": "Hello"}]
RIVERS = ["a river", "a mountain", "the sea and the river", "a stone"]


async def openai_streams_embeds_and_lists(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        listed = {model.id async for model in client.models.list()}
        assert {"tiny-chat", "tiny-embed", "other-chat"} <= listed
        stream = await client.chat.completions.create(model="primary", messages=HELLO, stream=True, max_tokens=20)
        words = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert len(words.split()) > 3
        plain = await client.embeddings.create(model="embed", input=["a river", "a mountain"], encoding_format="float")
        packed = await client.embeddings.create(model="embed", input=["a river", "a mountain"])
        for one, other in zip(plain.data, packed.data, strict=True):
            assert len(one.embedding) == len(other.embedding) > 8
            assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-6


async def openai_responds(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.responses.create(model="primary", input="Hello", max_output_tokens=8)
        assert whole.output_text
        stream = await client.responses.create(model="primary", input="Hello", max_output_tokens=8, stream=True)
        kinds = [event.type async for event in stream]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert "response.output_text.delta" in kinds


async def anthropic_talks_counts_and_is_refused(url: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
        answer = await client.messages.create(model="claude-any", max_tokens=8, messages=HELLO)
        assert answer.content[0].type == "text"
        assert answer.usage.output_tokens > 0
        counted = await client.messages.count_tokens(model="primary", messages=HELLO)
        assert counted.input_tokens >= answer.usage.input_tokens  # which says only what was not in the cache
        async with client.messages.stream(model="primary", max_tokens=8, messages=HELLO) as stream:
            assert len([text async for text in stream.text_stream]) > 1
            assert (await stream.get_final_message()).stop_reason == "max_tokens"
        with pytest.raises(anthropic.ConflictError) as caught:
            await client.messages.create(model="embed", max_tokens=8, messages=HELLO)
        assert caught.value.request_id
        assert caught.value.body["error"]["code"] == "dispatch.capability_mismatch"  # type: ignore[index]


async def cohere_ranks(url: str) -> None:
    async with (
        cohere.AsyncClientV2(base_url=url, api_key="none") as second,
        cohere.AsyncClient(base_url=url, api_key="none") as first,
    ):
        objects = [{"text": text} for text in RIVERS]
        best = set()
        for client, documents in ((first, RIVERS), (first, objects), (second, RIVERS)):
            ranked = await client.rerank(model="embed-rerank", query="a river", documents=documents, top_n=3)
            scores = [result.relevance_score for result in ranked.results]
            assert scores == sorted(scores, reverse=True)
            best.add(tuple(result.index for result in ranked.results))
        assert len(best) == 1


async def engines_own_paths(url: str) -> None:
    """Tokens there and back, the same by every way; and an engine as it is."""
    async with aiohttp.ClientSession(base_url=url) as session:

        async def ask(path: str, body: Any) -> Any:
            async with session.post(path, json=body) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        for model in ("primary", "embed"):
            tokens = (await ask("/v1/tokenize", {"model": model, "content": "the river"}))["tokens"]
            assert tokens == (await ask(f"/slot/{model}/tokenize", {"content": "the river"}))["tokens"]
            assert "river" in (await ask("/detokenize", {"model": model, "tokens": tokens}))["content"]
        assert (await ask("/completion", {"prompt": "the river", "n_predict": 4}))["content"]
        assert "Hello" in (await ask("/apply-template", {"messages": HELLO}))["prompt"]
        body = {"query": "a river", "documents": RIVERS}
        ways = [await ask(path, body) for path in ("/v1/rerank", "/v1/rerankings", "/reranking")]
        assert len({str(way["results"]) for way in ways}) == 1
        async with session.get("/props?model=embed") as answer:
            assert (await answer.json())["model_alias"] == "tiny-embed"
        async with session.get("/slot/primary/metrics") as answer:
            assert "llamacpp:" in await answer.text()


async def everything_eight_times_at_once(url: str) -> None:
    """Each of eight gets its own answer, whatever its size; what goes in as a list comes back in its order."""
    unicode = "rivière 河 🏞 " * 64
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client,
        cohere.AsyncClientV2(base_url=url, api_key="none") as ranking,
    ):

        async def embeds(texts: list[str]) -> list[list[float]]:
            answer = await client.embeddings.create(model="embed", input=texts, encoding_format="float")
            assert [item.index for item in answer.data] == list(range(len(texts)))
            return [item.embedding for item in answer.data]

        async def chats(number: int) -> None:
            asks: Any = [{"role": "user", "content": f"{number} {unicode}"}]
            answer = await client.chat.completions.create(
                model="primary", messages=asks, max_tokens=4, extra_body={"vendor_extension": {"kept": number}}
            )
            assert answer.choices[0].message.role == "assistant"
            assert answer.usage is not None
            assert answer.usage.completion_tokens <= 4

        async def ranks(count: int) -> None:
            documents = [f"document {number}" for number in range(count)]
            answer = await ranking.rerank(model="embed-rerank", query="river", documents=documents, top_n=count)
            scores = [result.relevance_score for result in answer.results]
            assert scores == sorted(scores, reverse=True)
            assert {result.index for result in answer.results} == set(range(count))

        await asyncio.gather(*map(chats, range(8)), *(embeds(RIVERS) for _ in range(8)), *map(ranks, (1, 200) * 4))
        together, turned = await asyncio.gather(embeds(RIVERS), embeds(RIVERS[::-1]))
        for one, other in zip(together, turned[::-1], strict=True):
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-3
