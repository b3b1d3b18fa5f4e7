"""`request_defaults`: members that a request may leave out."""

import json
from pathlib import Path

import pytest

from hal0.providers.base import Forward
from tests.fakes.backend import Talk
from tests.fakes.slots import READY, FakeProvider, snapshot
from tests.functional.dispatch_app import world

DEFAULTS = {"temperature": 0.2, "model": "nobody", "stop": ["x"]}


async def echo(talk: Talk) -> None:
    await talk.json({"got": json.loads(talk.seen.body)})


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, {"temperature": 0.2, "stop": ["x"]}),
        ({"temperature": 1.0}, {"temperature": 1.0, "stop": ["x"]}),
        ({"temperature": None, "stop": []}, {"temperature": None, "stop": []}),
    ],
)
async def test_a_default_fills_what_is_left_out_and_nothing_else(
    tmp_path: Path, sent: dict[str, object], expected: dict[str, object]
) -> None:
    async with world(tmp_path) as it:
        it.backend.behave("fake-chat", echo)
        provider = FakeProvider(Forward("/v1/chat/completions", edits={"model": "fake-chat"}))
        it.slots.add(snapshot("tuned", **READY, endpoint=it.endpoint, provider=provider, request_defaults=DEFAULTS))
        body = {"model": "tuned", "messages": [], **sent}
        async with it.http.post(f"{it.url}/v1/chat/completions", json=body) as answer:
            got = (await answer.json())["got"]
    assert got == {"model": "fake-chat", "messages": [], **expected}
