"""Builders of the values that tests hand to hal0, each with defaults that make sense together."""

from pathlib import Path
from typing import Any

from hal0.engine.base import LABEL_PREFIX, ContainerSpec, Mount, Publish
from hal0.providers.base import MODEL_DIR, Launch
from hal0.vocab import Capability, Device, SlotName
from tests.fakes.engine import FAKE_IMAGE

INSTANCE = "0badcafe"


def container_spec(
    slot: str = "primary", *, generation: int = 1, port: int | None = None, **changes: Any
) -> ContainerSpec:
    """A container of one slot with hal0's labels, on the image that a FakeEngine has."""
    model = "tiny-chat"
    fields: dict[str, Any] = {
        "name": f"hal0-{INSTANCE}-{slot}-{generation}",
        "image": FAKE_IMAGE.id,
        "argv": ("--model", f"{MODEL_DIR}/{model}.gguf"),
        "labels": {
            LABEL_PREFIX + "instance": INSTANCE,
            LABEL_PREFIX + "slot": slot,
            LABEL_PREFIX + "generation": str(generation),
            LABEL_PREFIX + "model": model,
            LABEL_PREFIX + "role": "current",
        },
        "mounts": (Mount(Path(f"/store/{model}.gguf"), f"{MODEL_DIR}/{model}.gguf"),),
        "publish": Publish(port, 8080) if port is not None else None,
    }
    return ContainerSpec(**(fields | changes))


def launch(slot: str = "primary", **changes: Any) -> Launch:
    """One start of a slot with a small chat model."""
    fields: dict[str, Any] = {
        "slot": SlotName(slot),
        "model": "tiny-chat",
        "files": (Path("/store/tiny-chat.gguf"),),
        "mmproj": None,
        "capabilities": frozenset({Capability.CHAT, Capability.COMPLETION}),
        "device": Device.CPU,
        "gpu_index": None,
        "context_size": 4096,
        "parallel": None,
        "extra_args": (),
        "env": {},
        "port": 8080,
    }
    return Launch(**(fields | changes))
