"""The clients that users bring, unmodified."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest

from hal0.dispatch.surface import SURFACE
from tests.fakes.backend import Talk, delta, running
from tests.functional.dispatch_app import World, world
from tests.functional.upstream_app import KEY, table

HELLO: Final[Any] = [{"role": "user", "content": "hi"}]
# By path: what a real llama-server streamed.
RECORDED: Final = {
    f"POST {path} ": (Path(__file__).parent / "recorded" / f"{name}.sse").read_bytes()
    for path, name in (
        ("/v1/chat/completions", "chat"),
        ("/v1/completions", "completions"),
        ("/v1/responses", "responses"),
        ("/v1/messages", "messages"),
    )
}


async def recorded(talk: Talk) -> None:
    """After a while, the stream; or half of its events, to the user of that name."""
    stream = next(stream for line, stream in RECORDED.items() if talk.seen.line.startswith(line))
    await asyncio.sleep(0.1)
    await talk.open_events()
    if b'"half"' in talk.seen.body:
        await talk.chunk(stream[: len(stream) // 2].rpartition(b"\n\n")[0] + b"\n\n")
        talk.writer.close()
        return
    await talk.chunk(stream)
    await talk.end()


async def streamed(url: str, path: str, user: str) -> int:
    """Streams through the client that a path is for; how many events it made of what came."""
    count = 0
    if path == "/messages":
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
            meta: Any = {"user_id": user}
            stream: Any = await client.messages.create(
                model="primary", max_tokens=8, messages=HELLO, stream=True, metadata=meta
            )
            async for _ in stream:
                count += 1
        return count
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as other:
        members: Any = {"model": "primary", "stream": True, "user": user}
        match path:
            case "/chat/completions":
                stream = await other.chat.completions.create(messages=HELLO, **members)
            case "/completions":
                stream = await other.completions.create(prompt="the river", **members)
            case _:
                stream = await other.responses.create(input="hi", **members)
        async for _ in stream:
            count += 1
    return count


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        yield it


@pytest.fixture
async def client(w: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{w.url}/v1", api_key="none", max_retries=0) as it:
        yield it


async def test_openai_chats(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="primary", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "one two three"


async def test_openai_streams(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="fake-chat", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    words = [event.choices[0].delta.content async for event in stream]
    assert "".join(word or "" for word in words) == "one two three"


async def test_openai_embeds_and_says_which_encoding_it_wants(w: World, client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="fake-embed", input="x")
    assert answer.data[0].embedding == [0.5, -0.25]
    assert b'"encoding_format":"base64"' in w.backend.seen[0].body


async def test_openai_lists_models(client: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert listed == ["primary", "embed", "fake-embed", "fake-chat", "on-disk"]
    for name, now in (("primary", "fake-chat"), ("fake-chat", None)):
        found = await client.models.retrieve(name)
        assert (found.id, (found.model_extra or {})["model"]) == (name, now)


async def test_openai_understands_a_stream_that_broke(w: World, client: openai.AsyncOpenAI) -> None:
    async def behave(talk: Talk) -> None:
        await talk.open_events()
        await talk.chunk(delta("half"))
        talk.writer.close()

    w.backend.behave("fake-chat", behave)
    stream = await client.chat.completions.create(
        model="fake-chat", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    assert (await anext(stream)).choices[0].delta.content == "half"
    with pytest.raises(openai.APIError) as caught:
        await anext(stream)
    assert caught.value.code == "upstream.broken"


async def test_openai_retries_by_itself_while_a_slot_loads(w: World) -> None:
    w.slots["primary"].become(expected_load_s=1.0, endpoint=None)
    async with openai.AsyncOpenAI(
        base_url=f"{w.url}/v1", api_key="none", max_retries=1, default_headers={"X-Hal0-Hold": "0"}
    ) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="primary", messages=[])
    assert caught.value.status_code == 503
    assert len(list(w.decisions)) == 2


KEPT_ALIVE: Final = [row.path for row in SURFACE if row.keepalive]


@pytest.mark.parametrize("path", KEPT_ALIVE)
async def test_the_client_of_each_path_skips_signs_of_life_and_reads_the_stream(tmp_path: Path, path: str) -> None:
    async with world(tmp_path, keepalive_s=0.02) as w:
        w.backend.behave("primary", recorded)
        with_signs = await streamed(w.url, path, "whole")
        (record,) = w.decisions
    async with world(tmp_path, keepalive_s=0) as w:
        w.backend.behave("primary", recorded)
        assert await streamed(w.url, path, "whole") == with_signs > 8
        (bare,) = w.decisions
    assert record.bytes_out == bare.bytes_out


@pytest.mark.parametrize("path", KEPT_ALIVE)
async def test_the_client_of_each_path_sees_that_a_stream_broke(w: World, path: str) -> None:
    w.backend.behave("primary", recorded)
    failure = anthropic.APIError if path == "/messages" else openai.APIError
    with pytest.raises(failure) as caught:
        await streamed(w.url, path, "half")
    assert "broke off" in str(caught.value)


async def test_anthropic_is_refused_in_its_own_words(w: World) -> None:
    async with anthropic.AsyncAnthropic(base_url=w.url, api_key="none", max_retries=0) as client:
        with pytest.raises(anthropic.ConflictError) as caught:
            await client.messages.create(model="embed", max_tokens=8, messages=HELLO)
        assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
        assert caught.value.request_id == list(w.decisions)[-1].request_id
        w.slots["primary"].become(expected_load_s=1.0, endpoint=None)
        patient = client.with_options(default_headers={"X-Hal0-Hold": "0"})
        with pytest.raises(anthropic.APIStatusError) as later:
            await patient.messages.create(model="primary", max_tokens=8, messages=HELLO)
    assert later.value.status_code == 503
    assert later.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]


async def test_anthropics_own_models_are_asked_with_hal0s_key_and_the_clients_version(tmp_path: Path) -> None:
    async with running() as far:
        far.lists = ["claude-x"]
        far.behave("claude-x", recorded)
        auth = {"style": "header", "header": "x-api-key", "env": "FAR_KEY"}
        claude = table(far, kind="anthropic", prefix="c/", auth=auth)
        async with world(tmp_path, root={"upstreams": {"claude": claude}}, environ=KEY) as w:
            async with anthropic.AsyncAnthropic(base_url=w.url, api_key="mine", max_retries=0) as client:
                beta: Any = {"anthropic-beta": "b-1", "anthropic-version": "2024-01-01"}
                async with client.messages.stream(
                    model="c/claude-x", max_tokens=8, messages=HELLO, extra_headers=beta
                ) as stream:
                    final = await stream.get_final_message()
            assert final.usage.output_tokens == 8
            (record,) = w.decisions
        seen = next(seen for seen in far.seen if seen.line.startswith("POST"))
        assert seen.line == "POST /v1/messages HTTP/1.1"
        assert b'"model":"claude-x"' in seen.body
        told = [seen.header(name) for name in ("x-api-key", "anthropic-beta", "anthropic-version", "authorization")]
        assert told == ["sk-far", "b-1", "2024-01-01", None]
        assert (record.target, record.prompt_tokens, record.completion_tokens) == ("claude", 20, 8)
