"""What podman refuses, in hal0's words: every row that callers act on, from the real podman."""

import io
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hal0.engine.base import LABEL_PREFIX, ContainerSpec, Mount, Publish
from hal0.engine.errors import ContainerMissing, HostRefused, ImageMissing, NameTaken, PortTaken
from hal0.engine.podman import PodmanEngine
from hal0.errors import Hal0Error


def spec(instance: str, image: str, **changes: Any) -> ContainerSpec:
    fields: dict[str, Any] = {
        "name": f"hal0-{instance}-primary-1",
        "image": image,
        "argv": ("exit 0",),
        "labels": {LABEL_PREFIX + "instance": instance},
        "network": "none",
    }
    return ContainerSpec(**(fields | changes))


async def test_a_port_that_is_busy_at_start_is_named(
    engine: PodmanEngine, instance: str, shell_image: str, free_port: int
) -> None:
    container = await engine.create(spec(instance, shell_image, network="bridge", publish=Publish(free_port, 8080)))
    try:
        with socket.create_server(("127.0.0.1", free_port)), pytest.raises(PortTaken) as caught:
            await engine.start(container)
        assert caught.value.port == free_port
        assert caught.value.code == "slot.port_taken"
    finally:
        await engine.remove(container)


async def test_a_name_in_use_is_told_from_other_refusals(engine: PodmanEngine, instance: str, shell_image: str) -> None:
    container = await engine.create(spec(instance, shell_image))
    try:
        with pytest.raises(NameTaken):
            await engine.create(spec(instance, shell_image))
    finally:
        await engine.remove(container)


@pytest.mark.parametrize("image", ["0" * 64, "localhost/never-built:latest"])
async def test_a_missing_image_is_named(engine: PodmanEngine, instance: str, image: str) -> None:
    with pytest.raises(ImageMissing) as caught:
        await engine.create(spec(instance, image))
    assert image in caught.value.message
    assert caught.value.code == "image.missing"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"devices": ("/dev/no-such-device",)}, "/dev/no-such-device"),
        ({"mounts": (Mount(Path("/no/such/model.gguf"), "/models/model.gguf"),)}, "/no/such/model.gguf"),
        ({"network": "no-such-network"}, "no-such-network"),
    ],
)
async def test_what_is_not_on_this_host_is_named(
    engine: PodmanEngine, instance: str, shell_image: str, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(HostRefused) as caught:
        await engine.create(spec(instance, shell_image, **changes))
    assert named in caught.value.message


async def test_an_entry_point_that_is_not_in_the_image_is_named(
    engine: PodmanEngine, instance: str, tmp_path: Path
) -> None:
    tar = tmp_path / "empty.tar"
    with tarfile.open(tar, "w") as out:
        out.addfile(tarfile.TarInfo("empty"), io.BytesIO())
    tag = f"localhost/hal0-test-{instance}:latest"
    image = await engine.image_import(tar, tag, ('ENTRYPOINT ["/no-such-program"]',), lambda _: None)
    try:
        # without an init, which would be found and fail later
        from hal0.engine.payload import Feature, HostProfile

        class NoInit:
            async def profile(self, *_: object) -> HostProfile:
                return HostProfile({Feature.INIT: "tested without"})

        bare = PodmanEngine(engine.transport.socket, profiles=NoInit())
        container = await bare.create(spec(instance, image.id))
        try:
            with pytest.raises(HostRefused) as caught:
                await bare.start(container)
            assert "/no-such-program" in caught.value.message
        finally:
            await bare.remove(container)
            await bare.aclose()
    finally:
        await engine.image_remove(tag)


async def test_a_container_that_is_gone_cannot_be_started(engine: PodmanEngine, instance: str) -> None:
    with pytest.raises(ContainerMissing):
        await engine.start(f"hal0-{instance}-primary-1")


async def test_reading_the_log_of_a_container_that_is_gone_says_so(engine: PodmanEngine, instance: str) -> None:
    with pytest.raises(ContainerMissing):
        [line async for line in engine.logs(f"hal0-{instance}-primary-1")]


async def test_a_socket_without_podman_is_unreachable_with_the_known_cure(tmp_path: Path) -> None:
    engine = PodmanEngine(tmp_path / "none.sock", hint=lambda: "install it")
    try:
        for call in (engine.ping(), engine.inspect("x"), engine.image_list()):
            with pytest.raises(Hal0Error) as caught:
                await call
            assert (caught.value.code, caught.value.hint) == ("engine.unreachable", "install it")
    finally:
        await engine.aclose()
