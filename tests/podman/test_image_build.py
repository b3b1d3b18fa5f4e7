"""The llama.cpp image, really built: from this host's packages, and from the Containerfile on a base of its own."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hal0.engine.base import ImageProgress
from hal0.engine.images import ImageService, Source
from hal0.engine.manifest import images_root, read_manifest
from hal0.engine.podman import PodmanEngine
from hal0.lib.clock import SystemClock
from tests.podman.base import made_base
from tests.podman.service import Podman

ROOT = images_root()
CPU = read_manifest(ROOT)["cpu"]


def output(podman: Podman, *words: str) -> str:
    done = subprocess.run(
        ["podman", "run", "--rm", "--network", "none", "--pull", "never", *words],
        env=dict(podman.environ), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def packages(podman: Podman, image: str) -> str:
    return output(podman, "--entrypoint", "/bin/busybox", image, "cat", "/usr/share/hal0/packages")


def layers(podman: Podman, image: str) -> list[str]:
    """Digests of the image's files, as they were imported."""
    found: list[str] = podman.call("GET", f"/images/{image}/json")["RootFS"]["Layers"]
    return found


@pytest.fixture
async def built_in_container(podman: Podman, engine: PodmanEngine, instance: str) -> AsyncIterator[str]:
    tag = f"localhost/hal0-test-cf-{instance}:latest"
    await engine.image_build(
        ROOT,
        containerfile="llama/Containerfile",
        target="cpu",
        tag=tag,
        build_args={"BASE": await asyncio.to_thread(made_base, podman.store)},
        on_progress=lambda _: None,
    )
    yield tag
    await engine.image_remove(tag)


async def test_both_ways_make_the_same_packages(podman: Podman, cpu_image: str, built_in_container: str) -> None:
    listed = await asyncio.to_thread(packages, podman, built_in_container)
    assert listed == await asyncio.to_thread(packages, podman, cpu_image)
    assert "llama.cpp-tools " in listed
    assert "version:" in await asyncio.to_thread(output, podman, built_in_container, "--version")


async def test_the_service_builds_an_image_that_runs_and_finds_it_again(
    podman: Podman, engine: PodmanEngine, instance: str, tmp_path: Path, cpu_image: str
) -> None:
    """The tests' own image was built apart from it: the same packages make the same bytes."""
    entry = CPU.model_copy(update={"key": f"test-{instance}"})
    service = ImageService(
        engine, {entry.key: entry}, root=ROOT, record_file=tmp_path / "images.json", clock=SystemClock()
    )
    heard: list[ImageProgress] = []
    image_id = await service.ensure(entry.key, heard.append)
    try:
        assert "version:" in await asyncio.to_thread(output, podman, image_id, "--version")
        assert layers(podman, image_id) == layers(podman, cpu_image)
        steps = [progress.message for progress in heard if not progress.message.endswith(" so far")]
        assert [step.split()[0] for step in steps[:4]] == ["reading", "fetching", "unpacking", "packing"]
        (state,) = await service.list()
        assert state.choice.source is Source.LOCAL
        assert (await service.verify(entry.key)).choice.image == state.choice.image
        again: list[ImageProgress] = []
        assert await service.ensure(entry.key, again.append) == image_id
        assert again == []
    finally:
        await service.aclose()
        await engine.image_remove(entry.local_tag)


async def test_the_cpu_image_is_small_and_keeps_its_licences(
    podman: Podman, engine: PodmanEngine, cpu_image: str
) -> None:
    image = await engine.image_inspect(cpu_image)
    assert image is not None
    assert image.size_bytes <= 150_000_000
    script = "cut -d ' ' -f 1 /usr/share/hal0/packages | while read p; do [ -e /usr/share/doc/$p ] || echo $p; done"
    assert await asyncio.to_thread(output, podman, "--entrypoint", "/bin/sh", cpu_image, "-c", script) == ""
    texts = await asyncio.to_thread(
        output,
        podman,
        "--entrypoint",
        "/bin/busybox",
        cpu_image,
        "ls",
        "/usr/share/doc/llama.cpp-tools",
        "/usr/share/common-licenses",
    )
    assert "copyright" in texts
    assert "Apache-2.0" in texts
