"""Chats, completions and pictures in chats: what the clients of OpenAI and Anthropic get from llama.cpp."""

import asyncio
import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import aiohttp
import anthropic
import openai
import pytest

from tests.podman.engines.world import World
from tests.podman.streams import chat, until
from tests.tiny.pixels import damaged, painted

HELLO: Final[Any] = [{"role": "user", "content": "Hello"}]
JAVASCRIPT: Final = Path(__file__).parents[2] / "npm"
UNICODE: Final = "rivière 河 🏞 " * 64


async def answers_and_lists(world: World) -> None:
    async with world.openai() as client:
        listed = {model.id async for model in client.models.list()}
        assert {seat.model for seat in world.seats} <= listed
        answer = await client.chat.completions.create(model="primary", messages=HELLO, max_tokens=20)
        assert answer.choices[0].finish_reason == "length"
        assert len((answer.choices[0].message.content or "").split()) > 3
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 20


async def streams_word_by_word(world: World) -> None:
    async with world.openai() as client:
        stream = await client.chat.completions.create(
            model="primary", messages=HELLO, stream=True, max_tokens=20, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert len([word for word in words if word]) > 10
        assert len("".join(words).split()) > 3
        assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [20]


async def completes(world: World) -> None:
    async with world.openai() as client:
        whole = await client.completions.create(model="primary", prompt="the river", max_tokens=8, temperature=0)
        assert whole.choices[0].text
        stream = await client.completions.create(
            model="primary", prompt="the river", max_tokens=8, temperature=0, stream=True
        )
        pieces = [event.choices[0].text async for event in stream]
        assert len(pieces) > 4
        assert "".join(pieces) == whole.choices[0].text


async def responds(world: World) -> None:
    async with world.openai() as client:
        whole = await client.responses.create(model="primary", input="Hello", max_output_tokens=8)
        assert whole.output_text
        stream = await client.responses.create(model="primary", input="Hello", max_output_tokens=8, stream=True)
        kinds = [event.type async for event in stream]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert "response.output_text.delta" in kinds


async def talks_to_anthropic(world: World) -> None:
    async with anthropic.AsyncAnthropic(base_url=world.url, api_key="none", max_retries=0) as client:
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
        # The engine's own refusal, which it does not word as this client reads them.
        long: Any = [{"role": "user", "content": "word " * 6_000}]
        with pytest.raises(anthropic.BadRequestError, match="context") as refused:
            await client.messages.create(model="eyes", max_tokens=8, messages=long)
        assert refused.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


async def talks_to_javascript(world: World) -> None:
    folder = await asyncio.to_thread(_javascript)
    process = await asyncio.create_subprocess_exec(
        "node", "client.mjs", f"{world.url}/v1", cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    seen = json.loads(out)
    assert seen["chunks"] > 10
    assert len(seen["text"].split()) > 3
    assert {"tiny-chat", "tiny-embed"} <= set(seen["models"])
    assert (seen["events"][0], seen["events"][-1]) == ("response.created", "response.completed")
    assert (seen["sound"]["kind"], seen["sound"]["begins"]) == ("audio/wav", "RIFF")
    assert seen["sound"]["size"] > 10_000
    heard = seen["heard"]
    assert heard["json"]["text"] == heard["verbose_json"]["text"] == heard["text"].strip()
    assert heard["vtt"].startswith("WEBVTT\n\n")
    assert heard["srt"].startswith("1\n00:00:00,000 --> ")
    refused = {name: (it["kind"], it["status"]) for name, it in seen["refusals"].items()}
    assert refused == {
        "messages": ("BadRequestError", 400),
        "capability": ("ConflictError", 409),
        "sound": ("APIError", 415),
        "model": ("NotFoundError", 404),
    }
    assert seen["refusals"]["sound"]["code"] == "audio.unsupported_format"
    assert all(it["requestId"] for it in seen["refusals"].values())
    # Without encoding_format the client asks for base64 and decodes it: floats for an answer would be garbage here.
    for packed, plain in zip(seen["packed"], seen["plain"], strict=True):
        assert len(packed) == len(plain) > 8
        assert max(abs(a - b) for a, b in zip(packed, plain, strict=True)) < 1e-6


def _javascript() -> Path:
    """The locked client, installed once per lock into the tests' cache."""
    lock = (JAVASCRIPT / "package-lock.json").read_bytes()
    base = Path(os.environ.get("HAL0_TEST_CACHE") or Path.home() / ".cache" / "hal0-tests")
    folder = base / f"npm-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "node_modules" / "openai").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(JAVASCRIPT / name, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=180)
    shutil.copy(JAVASCRIPT / "client.mjs", folder)
    return folder


async def each_of_eight_gets_its_own(world: World) -> None:
    async with world.openai() as client:

        async def chats(number: int) -> None:
            asks: Any = [{"role": "user", "content": f"{number} {UNICODE}"}]
            answer = await client.chat.completions.create(
                model="primary", messages=asks, max_tokens=4, extra_body={"vendor_extension": {"kept": number}}
            )
            assert answer.choices[0].message.role == "assistant"
            assert answer.usage is not None
            assert answer.usage.completion_tokens <= 4

        await asyncio.gather(*map(chats, range(8)))


async def has_its_own_paths(world: World) -> None:
    """Tokens there and back, the same by every way; and an engine as it is."""
    async with aiohttp.ClientSession(base_url=world.url) as session:

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
        async with session.get("/props?model=embed") as answer:
            assert (await answer.json())["model_alias"] == "tiny-embed"
        async with session.get("/slot/primary/metrics") as answer:
            assert "llamacpp:" in await answer.text()


async def tells_how_it_goes(world: World) -> None:
    """Live figures of the slot, from the engine's own words while it answers one; none when nobody is answered."""
    async with world.daemon.operator() as operator:
        stream = await chat(world.daemon.port, max_tokens=12_000)
        reading = asyncio.create_task(stream.to_end())
        seen: list[Any] = []

        async def told_twice() -> bool:
            live = (await operator.slot())["live"]
            if live and live["tokens_per_second"] and live["context_used"] and live not in seen:
                if seen and live["context_used"] < seen[-1]["context_used"]:
                    seen.clear()  # those were of who asked before
                seen.append(live)
            return len(seen) == 2

        try:
            await until(told_twice, within_s=30, what="live figures, and newer ones")
            # Every event is a token; the context has the question, too.
            written = len(stream.events)
            assert seen[0]["context_used"] < seen[1]["context_used"] <= written + 120, (seen, written)
            assert seen[1]["deferred"] == 0
            shown = (await asyncio.to_thread(world.daemon.ctl, "ps")).stdout
            assert "/32K" in shown, shown
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await stream.close()

        async def quiet() -> bool:
            return (await operator.slot())["live"] is None

        await until(quiet, within_s=20, what="figures of nothing")


# ---- pictures ----


async def sees(world: World) -> None:
    """The same picture gives the same answer, another one another: it is looked at."""
    async with world.openai() as client:

        async def likely(*pictures: bytes) -> tuple[int, list[float]]:
            asked = await client.chat.completions.create(
                model="eyes", messages=_shown(*pictures), max_tokens=1, temperature=0, logprobs=True, top_logprobs=8
            )
            assert asked.usage is not None
            assert asked.choices[0].logprobs is not None
            first = (asked.choices[0].logprobs.content or [])[0]
            return asked.usage.prompt_tokens, [one.logprob for one in first.top_logprobs]

        (bare, _), (tokens, red), (_, again), (_, noise) = [
            await likely(*pictures) for pictures in ((), (painted(1),), (painted(1),), (painted(2),))
        ]
        assert tokens > bare + 10
        assert red == pytest.approx(again, abs=1e-3)
        assert red != pytest.approx(noise, abs=1e-3)
        both, _ = await likely(painted(1), painted(2))
        assert both > tokens + 10
        stream = await client.chat.completions.create(
            model="eyes", messages=_shown(painted(1)), stream=True, max_tokens=8
        )
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason
        for blind in ("primary", "writer"):
            with pytest.raises(openai.ConflictError, match="it takes no image"):
                await client.chat.completions.create(model=blind, messages=_shown(painted(1)), max_tokens=1)


def _shown(*pictures: bytes) -> Any:
    parts = [{"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in pictures]
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]


def _data_url(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


async def survives_any_picture(world: World) -> None:
    """Whatever is called a picture is looked at, or refused by a typed error; the engine goes on."""
    before = await asyncio.to_thread(world.container, "eyes")
    dice = random.Random(5)
    outcomes: set[tuple[int, str | None]] = set()
    async with world.openai() as client:
        for picture in damaged(dice, count=60):
            try:
                await client.chat.completions.create(model="eyes", messages=_shown(picture), max_tokens=1)
                outcomes.add((200, None))
            except openai.APIStatusError as refused:
                outcomes.add((refused.status_code, refused.type))
    assert outcomes == {(200, None), (400, "invalid_request_error")}
    assert (await asyncio.to_thread(world.container, "eyes"))["Id"] == before["Id"]
