"""The clients that users bring, unmodified."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.fakes.backend import Talk, delta
from tests.functional.dispatch_app import World, world


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
    assert {model.id async for model in client.models.list()} == {"fake-chat", "fake-embed", "on-disk"}
    assert (await client.models.retrieve("primary")).id == "fake-chat"


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
