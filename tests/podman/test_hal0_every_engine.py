"""The whole matrix on the real engines, all loaded at once: each capability, by each client, and what must come out."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import pytest

from hal0.providers.base import NOBODY
from hal0.slots.warmup import STOP_S
from tests.podman.engines import hearing, speaking, talking, vectors
from tests.podman.engines.world import World, built_world, seconds
from tests.podman.service import Podman


class Row(NamedTuple):
    capability: str
    asked_by: str
    comes_out: Callable[[World], Awaitable[None]]

    def __str__(self) -> str:
        return f"{self.capability}: {self.asked_by}: {self.comes_out.__name__.replace('_', ' ')}"


ROWS: Final = (
    Row("chat", "openai chat, models", talking.answers_and_lists),
    Row("chat", "openai chat, stream", talking.streams_word_by_word),
    Row("chat", "openai responses, stream", talking.responds),
    Row("chat", "anthropic messages, stream", talking.talks_to_anthropic),
    Row("chat", "openai for JavaScript", talking.talks_to_javascript),
    Row("chat", "openai chat, eight at once", talking.each_of_eight_gets_its_own),
    Row("chat", "operator, live figures", talking.tells_how_it_goes),
    Row("completion", "openai completions, stream", talking.completes),
    Row("completion", "llama.cpp's own clients", talking.has_its_own_paths),
    Row("vision", "openai chat with pictures, stream", talking.sees),
    Row("vision", "openai chat with damaged pictures", talking.survives_any_picture),
    Row("embed", "openai embeddings, float and base64", vectors.embeds_in_both_formats),
    Row("embed", "openai embeddings, batches, eight at once", vectors.embeds_lists_in_their_order),
    Row("rerank", "cohere v1 and v2", vectors.ranks_for_cohere),
    Row("rerank", "Jina over HTTP", vectors.ranks_for_jina_by_every_path),
    Row("rerank", "cohere, eight at once", vectors.ranks_for_eight_at_once),
    Row("stt", "openai transcriptions in 13 formats, translations", hearing.every_format_is_heard),
    Row("stt", "openai transcriptions, five forms", hearing.every_answer_has_its_form),
    Row("stt", "openai transcriptions, stream", hearing.a_stream_comes_piece_by_piece),
    Row("stt", "openai transcriptions", hearing.what_is_no_sound_is_refused),
    Row("stt", "openai transcriptions of damaged files", hearing.any_upload_is_heard_or_refused),
    Row("stt", "a client that leaves", hearing.nobody_works_for_who_left),
    Row("stt", "anybody at the engine's port", hearing.the_engine_is_hal0s_alone),
    Row("tts", "openai speech in 6 formats, speed, blends", speaking.every_format_is_sound),
    Row("tts", "a voice to be cloned", speaking.any_clip_is_sound_or_refused),
    Row("tts", "openai speech, stream", speaking.the_first_sound_comes_before_the_last_sentence_is_spoken),
    Row("tts", "openai speech, events", speaking.events_carry_the_same_sound),
    Row("tts", "openai speech in Mandarin and Japanese, events", speaking.signs_are_read_by_their_words),
    Row("tts", "openai speech in 8 languages", speaking.each_of_54_voices_speaks_its_language),
    Row("tts", "openai speech, voices", speaking.voices_are_listed_and_others_refused),
    Row("tts", "a client that leaves", speaking.who_leaves_stops_the_work),
)


@pytest.fixture(scope="module")
def world(podman: Podman) -> Iterator[World]:
    with built_world(podman) as made:
        asyncio.run(made.load(at_once=True))
        yield made


async def test_all_are_loaded_at_once_and_each_load_is_told_in_its_parts(world: World) -> None:
    async with world.daemon.operator() as operator:
        views = {view["name"]: view for view in (await operator.get("/api/slots"))["items"]}
    for seat in world.seats:
        view = views[seat.slot]
        assert (view["state"], view["model"]) == ("ready", seat.model), view["message"]
        parts = seconds(view["last_load"])
        assert sum(parts.values()) == pytest.approx(view["last_load"]["total_s"], abs=1e-6)
        assert min(parts["create"], parts["start"], parts["load"]) > 0, parts
    assert len(world.daemon.containers()) == len(world.seats)


def test_every_engine_is_nobody_inside(world: World) -> None:
    assert {Path(f"/proc/{one['Pid']}").stat().st_uid for one in world.daemon.containers()} == {NOBODY}


def test_each_kind_of_model_was_verified_by_its_own_work_once(world: World) -> None:
    """Before anybody else asked it for something."""
    for slot in ("primary", "embed", "embed-rerank", "judge", "eyes"):
        assert world.said[slot].count("processing task") == 1, world.said[slot]


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(world: World, row: Row) -> None:
    await row.comes_out(world)


@pytest.mark.parametrize("child", ["embed embed", "embed rerank", "voice stt", "voice tts"])
def test_the_button_of_its_card_says_that_it_works(world: World, child: str) -> None:
    pressed = world.daemon.ctl("cap", "test", *child.split())
    assert pressed.returncode == 0, pressed.stdout + pressed.stderr


async def test_a_slot_of_ones_own_is_made_loaded_asked_and_deleted_without_a_trace(world: World) -> None:
    hal0 = world.daemon
    made = await asyncio.to_thread(
        hal0.ctl, "slot", "create", "coder", "--model", "tiny-chat", "--ctx", "2048", "--load"
    )
    assert made.returncode == 0, made.stderr
    file = hal0.home / "etc" / "slots.d" / "coder.toml"
    assert file.read_text() == 'model = "tiny-chat"\ncontext_size = 2048\n'
    body = {"model": "coder", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{hal0.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["X-Hal0-Slot"] == "coder"
        assert (await answer.json())["choices"][0]["message"]["content"]
    gone = await asyncio.to_thread(hal0.ctl, "slot", "delete", "coder", "-y")
    assert gone.returncode == 0, gone.stderr
    assert len(hal0.containers()) == len(world.seats)
    assert not file.exists()
    assert not (hal0.state / "slots" / "coder").exists()
    async with hal0.operator() as operator:
        assert "coder" not in {slot["name"] for slot in (await operator.get("/api/slots"))["items"]}
    again = await asyncio.to_thread(hal0.ctl, "slot", "delete", "primary", "-y")
    assert (again.returncode, "slot.reserved" in again.stderr) == (6, True)


@pytest.mark.parametrize("slot", ["stt", "tts"])
async def test_an_engine_of_hal0s_own_ends_when_it_is_told_to(world: World, slot: str) -> None:
    """Also one that a client has just left in the middle of an answer."""
    async with world.daemon.operator() as operator:
        began = time.monotonic()
        assert (await operator.verb(slot, "unload"))["state"] == "done"
        assert time.monotonic() - began < STOP_S - 5, "nobody had to kill it"
