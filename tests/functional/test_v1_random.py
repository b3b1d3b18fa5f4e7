"""Clients come and leave at any moment, engines fail in any way: nothing is left behind, and nothing fails unseen."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import uvloop

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.lib.aio import cancelled
from hal0.vocab import OnClientGone
from tests.fakes.backend import DONE, Talk, delta, running
from tests.fakes.slots import LOADING, settled
from tests.functional.dispatch_app import World
from tests.functional.raw_client import post, raw
from tests.functional.upstream_app import house
from tests.guards import quiet_loop

# The first of a process makes a pipe for signals that stays until its end.
uvloop.new_event_loop().close()

PATHS: Final = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions", "/v1/messages/count_tokens")
MODELS: Final = ("primary", "fake-chat", "far/fake", "unknown")
HEADERS: Final = ((), (), (), ("Connection: close",), ("X-Hal0-Hold: 1",), ("Expect: 100-continue",))
CROWD: Final = 40
PATIENCE_S: Final = 0.3


class Life:
    """All of it from one number."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    async def engine(self, talk: Talk) -> None:
        await asyncio.sleep(self.chance.choice([0, 0, 0.005, 0.03]))
        match self.chance.randrange(9):
            case 0:
                talk.break_off()
            case 1:
                await talk.json({"error": {"message": "no"}}, self.chance.choice(["400 Bad", "503 Busy", "529 Busier"]))
            case 2:
                await talk.json({}, "302 Found", b"Location: http://127.0.0.2\r\n")
            case 3:
                await talk.raw(b"\x00garbage\r\n\r\n")
                talk.writer.close()
            case 4:
                await talk.json({"large": "x" * 200_000})
            case 5:
                await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}")
                talk.writer.close()
            case 6 | 7:
                await self.stream(talk)
            case _:
                await talk.json({"usage": {"prompt_tokens": 1}})

    async def stream(self, talk: Talk) -> None:
        await talk.open_events()
        for _ in range(self.chance.randrange(8)):
            await talk.chunk(delta("w" * self.chance.choice([1, 10, 5000])))
            await asyncio.sleep(self.chance.choice([0, 0, 0.004]))
        if self.chance.random() < 0.3:
            talk.break_off()
            return
        await talk.chunk(DONE)
        await talk.end()

    async def client(self, w: World) -> None:
        async with raw(w.port) as client:
            for _ in range(self.chance.randrange(1, 4)):
                await client.send(self.request())
                if self.chance.random() < 0.4:
                    await asyncio.sleep(self.chance.choice([0, 0.001, 0.01, 0.03]))
                    break
                async with asyncio.timeout(PATIENCE_S):
                    await client.reader.read(self.chance.choice([10, 1000, 1 << 20]))
            client.leave()

    async def operator(self, w: World) -> None:
        """The slot is unloaded, fails, loads again; keys are revoked."""
        slot, ended = w.slots["primary"], Hal0Error("slot.draining", "cannot go on: the slot is being unloaded")
        while True:
            await asyncio.sleep(self.chance.choice([0.001, 0.01, 0.05]))
            match self.chance.randrange(4):
                case 0:
                    slot.become(**LOADING, endpoint=None, expected_load_s=0.1)
                    slot.abort_all(ended)
                case 1:
                    for transport in [*w.dispatcher._cuttable.without_task, *w.dispatcher._cuttable._under_way]:
                        w.dispatcher.cut(transport, Hal0Error("auth.required", "cannot go on: the key is revoked"))
                case _:
                    slot.ready(w.endpoint)

    def request(self) -> bytes:
        body = {
            "model": self.chance.choice(MODELS),
            "stream": self.chance.random() < 0.5,
            "filler": "x" * self.chance.choice([0, 0, 0, 3000, 70_000, 300_000]),
        }
        whole = post(jsonio.dumps(body), *self.chance.choice(HEADERS), path=self.chance.choice(PATHS))
        return whole[: self.chance.randrange(len(whole))] if self.chance.random() < 0.1 else whole


async def lives(folder: Path, seeds: int) -> None:
    async with running() as far, house(folder, far, config={"keepalive_s": 0.01}) as w:
        slot, upstream = w.slots["primary"], w.upstreams.named("far")
        for seed in range(seeds):
            life = Life(seed)
            for server in (w.backend, far):
                for model in ("fake", *MODELS):
                    server.behave(model, life.engine)
            slot.become(max_inflight=5, queue_limit=10, on_client_gone=life.chance.choice(list(OnClientGone)))
            upstream.circuit = type(upstream.circuit)()
            operator = asyncio.create_task(life.operator(w))
            await asyncio.gather(*(life.client(w) for _ in range(CROWD)), return_exceptions=True)
            await cancelled(operator)
            slot.ready(w.endpoint)
            await settled(lambda: slot.in_flight == w.dispatcher.waiting(slot.name) == upstream.in_flight == 0)
        assert "system.internal" not in {record.code for record in w.decisions}
        ids = [record.request_id for record in w.decisions]
        assert len(ids) == len(set(ids)) > 0
        assert not w.dispatcher._spool._held


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_nothing_is_left_of_them(
    loop: Callable[[], asyncio.AbstractEventLoop],
    tmp_path: Path,
    soak_scale: Callable[[int, int], int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner, quiet_loop(runner.get_loop()):
        runner.run(lives(tmp_path, soak_scale(1, 300)))
    assert "Traceback" not in caplog.text
