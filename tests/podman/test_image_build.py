"""The llama.cpp image, really built: from this host's packages, and from the Containerfile on a base of its own."""

import asyncio
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hal0.engine.base import ImageProgress
from hal0.engine.images import ImageService, Source
from hal0.engine.manifest import images_root, read_manifest
from hal0.engine.podman import PodmanEngine
from hal0.lib.clock import SystemClock
from tests.podman.store import Podman

ROOT = images_root()
CPU = read_manifest(ROOT)["cpu"]
# What a Debian base needs so that rootfs.sh runs in it. Unpacked, not installed: the links and files that the
# packages' own scripts would make are added below.
BASE_PACKAGES = """
suite forky
target base
all apt
all base-files
all bash
all coreutils
all dash
all debian-archive-keyring
all dpkg
all findutils
all grep
all mawk
all sed
all tar
all xz-utils
omit debconf
omit perl-base
"""


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


def write_base(folder: Path) -> Path:
    """A Debian with apt and this host's mirror, as a base image that is pulled would have it."""
    (folder / "packages").write_text(BASE_PACKAGES)
    tar = folder / "base.tar"
    subprocess.run([ROOT / "rootfs.sh", tar, folder, "base"], check=True, timeout=300, stdout=subprocess.DEVNULL)
    mirror = told("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian")
    added = {
        "etc/apt/sources.list": f"deb {mirror.split()[0]} forky main\n",
        # A mirror that stands still is known as such to its host.
        "etc/apt/apt.conf.d/80host": told("apt-config", "dump", "Acquire::Check-Valid-Until"),
        "var/lib/dpkg/status": "",
    }
    with tarfile.open(tar, "a") as out:
        for name, text in added.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("./usr/bin/awk")
        link.type, link.linkname = tarfile.SYMTYPE, "mawk"
        out.addfile(link)
    return tar


def told(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.fixture
async def base(engine: PodmanEngine, instance: str, tmp_path: Path) -> AsyncIterator[str]:
    tag = f"localhost/hal0-test-base-{instance}:latest"
    await engine.image_import(await asyncio.to_thread(write_base, tmp_path), tag, (), lambda _: None)
    yield tag
    await engine.image_remove(tag)


@pytest.fixture
async def built_in_container(engine: PodmanEngine, instance: str, base: str) -> AsyncIterator[str]:
    tag = f"localhost/hal0-test-cf-{instance}:latest"
    await engine.image_build(
        ROOT,
        containerfile="llama/Containerfile",
        target="cpu",
        tag=tag,
        build_args={"BASE": base},
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
