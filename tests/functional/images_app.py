"""A hal0 whose `img` slot is a scripted ComfyUI, and what is asked of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from hal0.providers.comfyui.provider import ComfyUI
from hal0.slots.handle import Serves
from hal0.vocab import Capability
from tests.fakes.comfy import FakeComfy, png
from tests.fakes.slots import READY, snapshot
from tests.functional.dispatch_app import World, world

MODEL: Final = "tiny-sd15"
GENERATE: Final = "/v1/images/generations"
PICTURE: Final = png(96, 64, b"red")


@asynccontextmanager
async def drawing(tmp_path: Path, comfy: FakeComfy) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        it.slots.add(
            snapshot(
                "img",
                **READY,
                provider=ComfyUI(),
                endpoint=comfy.endpoint,
                model=MODEL,
                max_inflight=1,
                queue_limit=1,
                serves=(Serves(MODEL, Capability.IMAGE),),
            )
        )
        yield it


async def refused(w: World, path: str, body: Mapping[str, Any]) -> tuple[int, str, str | None]:
    async with w.http.post(f"{w.url}/v1/images/{path}", json=body) as answer:
        error = (await answer.json())["error"]
        return answer.status, error["code"], error["param"]


def ask(**members: Any) -> dict[str, Any]:
    return {"model": "img", "prompt": "a cat", "size": "64x64", "steps": 2, **members}
