"""FLM through hal0's `/v1`, with unmodified clients: its failures are failures, and it keeps the slot's models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from hal0.providers.base import Endpoint
from hal0.providers.flm import Flm
from hal0.slots.handle import Serves
from hal0.vocab import Capability, ProviderName
from tests.fakes.flm import CHAT_ID, FAILURES, VECTOR, FakeFlm, running
from tests.fakes.slots import READY, snapshot
from tests.functional.dispatch_app import World, world

CHAT, OTHER, EMBEDDER, LISTENER = "qwen3:4b", "gemma3:4b", "embed-gemma:300m", "whisper-v3:turbo"
SERVES = (
    Serves(CHAT, Capability.CHAT),
    Serves(CHAT, Capability.COMPLETION),
    Serves(EMBEDDER, Capability.EMBED),
    Serves(LISTENER, Capability.STT),
)
AUDIO = ("speech.wav", b"RIFF....WAVE", "audio/wav")


@dataclass
class Npu:
    """A slot `npu` of FLM's, and the client that asks for it."""

    flm: FakeFlm
    world: World
    client: openai.AsyncOpenAI

    async def say(self, text: str, model: str = CHAT, **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return await self.client.chat.completions.create(model=model, messages=messages, **more)


@asynccontextmanager
async def npu(tmp_path: Path, **engine: Any) -> AsyncIterator[Npu]:
    flm, provider = FakeFlm(**engine), Flm()
    provider.know((CHAT, OTHER, EMBEDDER, LISTENER))
    async with running(flm) as port, world(tmp_path) as it:
        it.slots.add(
            snapshot(
                "npu",
                **READY,
                endpoint=Endpoint("127.0.0.1", port, "s"),
                provider=provider,
                provider_name=ProviderName.FLM,
                model=CHAT,
                serves=SERVES,
                max_inflight=provider.at_once,
            )
        )
        async with openai.AsyncOpenAI(base_url=f"{it.url}/v1", api_key="none", max_retries=0) as client:
            yield Npu(flm, it, client)


async def test_every_answer_has_an_id_of_its_own(tmp_path: Path) -> None:
    async with npu(tmp_path) as it:
        whole = [await it.say("hello") for _ in range(2)]
        assert whole[0].choices[0].message.content == "you said hello"
        streams = [[chunk async for chunk in await it.say("hello", stream=True)] for _ in range(2)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streams[0]) == "one two"
        ids = [answer.id for answer in whole] + [{chunk.id for chunk in stream} for stream in streams]
        assert all(len(one) == 1 for one in ids[2:])
        flat = {ids[0], ids[1], *ids[2], *ids[3]}
        assert len(flat) == 4
        assert CHAT_ID not in flat


@pytest.mark.parametrize("asked", ["npu", CHAT, OTHER, "hal0/npu"])
async def test_flm_hears_of_no_model_but_the_slots(tmp_path: Path, asked: str) -> None:
    async with npu(tmp_path) as it:
        await it.say("hello", model=asked)
        await it.client.completions.create(model=asked, prompt="once")
        assert it.flm.models == [CHAT, CHAT]
        assert it.flm.swapped == []


async def test_each_capability_has_its_own_model(tmp_path: Path) -> None:
    async with npu(tmp_path) as it:
        await it.client.embeddings.create(model="npu", input="a river")
        await it.client.embeddings.create(model=EMBEDDER, input="a river")
        await it.client.audio.transcriptions.create(model="npu", file=AUDIO)
        assert it.flm.models == [EMBEDDER, EMBEDDER, LISTENER]
        assert it.flm.tag == CHAT


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ("fail with a text", 500, "Failed to load qwen3:4b model!"),
        ("fail with a code", 500, "out of luck"),
        ("fail without a model", 503, "no model for this loaded"),
        ("be too long", 400, "Max length reached!"),
        ("be too long in old words", 400, "Max length reached"),
    ],
)
async def test_a_failure_with_200_is_a_failure(
    tmp_path: Path, said: str, status: int, words: str, *, stream: bool
) -> None:
    assert said in FAILURES
    async with npu(tmp_path) as it:
        with pytest.raises(openai.APIStatusError, match=words) as caught:
            await it.say(said, stream=stream)
        assert caught.value.status_code == status


async def test_a_stream_that_was_kept_waiting_ends_with_the_error(tmp_path: Path) -> None:
    """After hal0's first comment the status is 200 already."""
    flm, provider = FakeFlm(slow_s=0.3), Flm()
    async with running(flm) as port, world(tmp_path, keepalive_s=0.05) as it:
        endpoint = Endpoint("127.0.0.1", port, "s")
        it.slots.add(snapshot("npu", **READY, endpoint=endpoint, provider=provider, model=CHAT, serves=SERVES))
        async with openai.AsyncOpenAI(base_url=f"{it.url}/v1", api_key="none", max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "fail with a text"}]
            stream = await client.chat.completions.create(model="npu", messages=messages, stream=True)
            with pytest.raises(openai.APIError, match="the engine answered 500") as caught:
                [chunk async for chunk in stream]
    body: Any = caught.value.body
    assert body["details"]["answer"]["error"]["message"] == "Failed to load qwen3:4b model!"


async def test_vectors_come_in_the_form_that_was_asked_for(tmp_path: Path) -> None:
    async with npu(tmp_path) as it:
        usual = await it.client.embeddings.create(model="npu", input=["a", "b"])  # the client asks for base64
        assert [item.embedding for item in usual.data] == [VECTOR, VECTOR]
        raw = await it.client.embeddings.with_raw_response.create(model="npu", input="a", encoding_format="base64")
        assert raw.http_response.json()["data"][0]["embedding"] == "AAAAPwAAgL4AAIA/"
        raw = await it.client.embeddings.with_raw_response.create(model="npu", input="a", encoding_format="float")
        assert raw.http_response.json()["data"][0]["embedding"] == VECTOR


async def test_what_flm_does_not_embed_is_refused_and_not_empty(tmp_path: Path) -> None:
    async with npu(tmp_path) as it:
        with pytest.raises(openai.BadRequestError, match="type must be string"):  # asking again would not help
            await it.client.embeddings.create(model="npu", input=[1, 2, 3])
    async with npu(tmp_path / "without", embed=False) as it:
        with pytest.raises(openai.InternalServerError, match="no model for this loaded") as caught:
            await it.client.embeddings.create(model="npu", input="a")
        assert caught.value.status_code == 503


async def test_transcripts_in_the_forms_that_need_no_times(tmp_path: Path) -> None:
    async with npu(tmp_path) as it:
        transcribe: Any = it.client.audio.transcriptions
        assert (await transcribe.create(model=LISTENER, file=AUDIO)).text == "And so my fellow Americans."
        text = await transcribe.with_raw_response.create(model="npu", file=AUDIO, response_format="text")
        assert text.headers["content-type"].startswith("text/plain")
        assert text.http_response.text == "And so my fellow Americans.\n"
        assert it.flm.forms[-1]["response_format"] == "text"  # the rest of the form is the client's
        heard = len(it.flm.forms)
        for wanted in ("srt", "vtt", "verbose_json", "diarized_json"):
            with pytest.raises(openai.BadRequestError, match="FLM tells no times") as caught:
                await transcribe.create(model="npu", file=AUDIO, response_format=wanted)
            assert caught.value.param == "response_format"
        assert len(it.flm.forms) == heard, "the NPU does not work for nothing"


async def test_a_listener_that_is_off_says_so(tmp_path: Path) -> None:
    async with npu(tmp_path, asr=False) as it:
        with pytest.raises(openai.APIStatusError, match="ASR model is not available") as caught:
            await it.client.audio.transcriptions.create(model="npu", file=AUDIO)
        assert caught.value.status_code == 503


async def test_the_npu_does_one_thing_at_a_time(tmp_path: Path) -> None:
    async with npu(tmp_path, slow_s=0.02) as it:
        asked = [it.say(f"hello {n}") for n in range(4)]
        asked += [it.client.completions.create(model="npu", prompt="once") for _ in range(4)]
        assert len(await asyncio.gather(*asked)) == 8
        assert it.flm.most_at_once == 1
