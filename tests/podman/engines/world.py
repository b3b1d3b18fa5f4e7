"""One hal0 whose slots are all loaded at once, each by its real engine: what the suite over the matrix asks."""

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import openai

from tests.podman.daemon import Daemon, Operator, installed
from tests.podman.service import Podman
from tests.ports import lease_block
from tests.tiny import gguf_models
from tests.tiny.kokoro_model import write_kokoro
from tests.tiny.onnx_models import write_moonshine
from tests.tiny.sd15_model import write_sd15

LOADED_WITHIN_S: Final = 90.0
RUN_S: Final = 60.0


@dataclass(frozen=True)
class Seat:
    """A slot and its model. `image` is a key of the manifest; None: the one of llama.cpp that every test has."""

    slot: str
    model: str
    write: Callable[[Path], object]
    image: str | None = None
    provider: str = ""
    fields: str = "verify_on_load = true"

    def table(self, image: str | None) -> str:
        lines = [f"[slots.{self.slot}]", f'model = "{self.model}"', self.fields]
        lines += [f'provider = "{self.provider}"'] if self.provider else []
        lines += [f'image = "{image}"'] if image else []
        return "\n".join([*lines, ""])


def _chat(path: Path) -> None:
    gguf_models.write_chat(path.with_suffix(".gguf"), ctx=32768, dim=128, eos_bias=gguf_models.NEVER_ENDS)


def _eyes(path: Path) -> None:
    path.mkdir()
    gguf_models.write_chat(path / f"{path.name}.gguf", ctx=4096)
    gguf_models.write_mmproj(path / f"mmproj-{path.name}.gguf")


# The built-ins that can be had here, the reranker, two chat slots of one's own, and two for what only these show.
SEATS: Final = (
    Seat("primary", "tiny-chat", _chat, fields="verify_on_load = true\nparallel = 10"),
    Seat("embed", "tiny-embed", lambda path: gguf_models.write_embed(path.with_suffix(".gguf"))),
    Seat("stt", "moonshine-tiny", write_moonshine, image="moonshine"),
    Seat("tts", "tiny-kokoro", lambda path: write_kokoro(path, work=1000), image="kokoro"),
    Seat("embed-rerank", "tiny-rerank", lambda path: gguf_models.write_rerank(path.with_suffix(".gguf"))),
    Seat("eyes", "tiny-eyes", _eyes),
    Seat("writer", "other-chat", lambda path: gguf_models.write_chat(path.with_suffix(".gguf"), seed=2)),
    Seat("judge", "tiny-judge", lambda path: gguf_models.write_judge(path.with_suffix(".gguf"))),
    Seat(
        "slow",
        "endless",
        lambda path: write_moonshine(path, ends=False, work=200),
        image="moonshine",
        provider="moonshine",
        fields="",
    ),
)

# Its image takes some minutes and gigabytes to build: only where it is here, or somebody has the time.
IMG: Final = Seat("img", "tiny-sd15", lambda path: write_sd15(path.with_suffix(".safetensors")), image="comfyui-cpu")


@dataclass(eq=False)
class World:
    """`said` is what each engine had written to its log when it became ready."""

    daemon: Daemon
    podman: Podman
    images: dict[str, str]
    seats: Sequence[Seat]
    said: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.daemon.url

    @asynccontextmanager
    async def openai(self) -> AsyncIterator[openai.AsyncOpenAI]:
        async with openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0) as client:
            yield client

    async def load(self, *, at_once: bool) -> None:
        """Every slot, all together or one after the other."""
        async with self.daemon.operator() as operator:
            if at_once:
                await asyncio.gather(*(self._load(operator, seat) for seat in self.seats))
            else:
                for seat in self.seats:
                    await self._load(operator, seat)

    async def _load(self, operator: Operator, seat: Seat) -> None:
        job = await operator.verb(seat.slot, "load", timeout_s=LOADED_WITHIN_S)
        assert job["state"] == "done", job
        lines = (await operator.get(f"/api/slots/{seat.slot}/logs"))["items"]
        self.said[seat.slot] = "\n".join(line["text"] for line in lines)

    def run(self, image: str, code: str, *words: str, folder: Path | None = None, stdin: str = "") -> str:
        """Python inside the image of this key, without a network; what it prints. `folder` is at /out. Blocking."""
        argv = ["podman", "run", "--rm", "-i", "--network", "none", "--user", "0"]
        argv += ["-v", f"{folder}:/out"] if folder else []
        argv += ["--entrypoint", "/usr/bin/python3", self.images[image], "-c", code, *words]
        done = subprocess.run(
            argv, env=dict(self.podman.environ), input=stdin, capture_output=True, text=True, timeout=RUN_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def container(self, slot: str) -> Any:
        """The slot's one container, as podman lists it. Blocking."""
        (found,) = [one for one in self.daemon.containers() if one["Labels"]["dev.hal0.slot"] == slot]
        return found


@contextmanager
def built_world(podman: Podman, seats: Sequence[Seat] = SEATS) -> Iterator[World]:
    """Installed and running; nothing is loaded yet, and nothing of it is left behind."""
    keys = {seat.image for seat in seats if seat.image}
    with ThreadPoolExecutor() as builders:  # where the store is new that takes minutes, most of it waiting for others
        images = dict(zip(keys, builders.map(podman.built, keys), strict=True))
    config = "".join(seat.table(images[seat.image] if seat.image else None) for seat in seats)
    with (
        lease_block() as ports,
        tempfile.TemporaryDirectory(prefix="h0-", dir="/tmp") as home,
        installed(Daemon(Path(home), ports[-1], ports[:-1], podman, config)) as daemon,
    ):
        for seat in seats:
            seat.write(daemon.models / seat.model)
        asyncio.run(_start(daemon))
        yield World(daemon, podman, images, seats)


async def _start(daemon: Daemon) -> None:
    await daemon.start()


def seconds(load: Any) -> dict[str, float]:
    """The parts of a load, as hal0 has recorded them."""
    return {part: load[f"{part}_s"] for part in ("create", "start", "load", "ready")}
