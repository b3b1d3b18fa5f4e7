"""One picture from graph to bytes: submitted, waited for, fetched; and stopped for certain when nobody wants it."""

import asyncio
import uuid
from contextlib import suppress
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s
from hal0.providers.comfyui.engine import ComfyEngine
from hal0.providers.comfyui.workflows import Graph

# A turbo model takes a fifth of a second, a large one minutes: looking costs both little.
_FIRST_LOOK_S, _LOOK_S = 0.03, 0.25
# A render that is nowhere has been removed behind our back: only an entry in the history ends a wait.
_LOOKS_PER_QUEUE: Final = 8
# Silence of the history, one call after the other, that is too much.
_SILENT_CALLS: Final = 3
# The engine interrupts between two steps, not while it reads weights.
STOP_S: Final = 20.0
_GONE_LOOKS: Final = 2


async def rendered(engine: ComfyEngine, graph: Graph, client_id: str) -> str:
    """The finished file, by the name `ComfyEngine.view` takes.

    Whatever ends the wait early (a deadline, the client's leaving, hal0's own end) stops the render in the engine
    before it is passed on, for STOP_S at most.
    """
    prompt_id = str(uuid.uuid4())
    try:
        await engine.submit(graph, prompt_id, client_id)
        file = await _finished(engine, prompt_id)
    except BaseException:  # and passes it on: the engine must not work for nobody
        await _stopped(engine, prompt_id)
        raise
    return file


async def _finished(engine: ComfyEngine, prompt_id: str) -> str:
    silent = looks = 0
    lost = False
    for pause_s in backoff_s(_FIRST_LOOK_S, _LOOK_S, factor=1.5):
        try:
            file = await engine.outcome(prompt_id)
            silent = 0
        except Hal0Error as error:
            silent += 1
            if error.code != "upstream.timeout" or silent == _SILENT_CALLS:
                raise
            continue
        if file is not None:
            await _forgotten(engine, prompt_id)
            return file
        if lost:
            raise Hal0Error("upstream.broken", "cannot go on: ComfyUI does not know this render any more")
        looks += 1
        if looks % _LOOKS_PER_QUEUE == 0:
            lost = prompt_id not in set.union(*await engine.queue())  # the next look at its history decides
        await asyncio.sleep(pause_s)
    raise AssertionError("the pauses have no end")


async def _forgotten(engine: ComfyEngine, prompt_id: str) -> None:
    """The picture is there: an engine that cannot forget now ends its history with itself."""
    with suppress(Hal0Error):
        await engine.forget(prompt_id)


async def _stopped(engine: ComfyEngine, prompt_id: str) -> None:
    """Until the engine neither runs nor holds it: a request that was under way may still arrive behind a first look."""
    gone = 0
    with suppress(TimeoutError, Hal0Error):  # it has ended, or is about to: whoever watches the slot sees to that
        async with asyncio.timeout(STOP_S):
            for pause_s in backoff_s(_FIRST_LOOK_S, _LOOK_S, factor=1.5):
                running, pending = await engine.queue()
                if prompt_id in pending:
                    await engine.dequeue(prompt_id)
                if prompt_id in running:
                    await engine.interrupt(prompt_id)
                gone = 0 if prompt_id in running | pending else gone + 1
                if gone == _GONE_LOOKS:
                    break
                await asyncio.sleep(pause_s)
            await engine.forget(prompt_id)
