"""The image store through the engine, on the real podman: import, tag, list, build, remove."""

import io
import tarfile
from pathlib import Path

import pytest

from hal0.engine.base import LABEL_PREFIX, ContainerSpec, ImageProgress
from hal0.engine.podman import PodmanEngine
from hal0.engine.superseded import remove, superseded
from hal0.errors import Hal0Error
from tests.podman.store import SHELL_IMAGE


@pytest.fixture
def tag(instance: str) -> str:
    return f"localhost/hal0-test-{instance}:latest"


def one_file(tmp_path: Path, name: str = "file", size: int = 0) -> Path:
    """A root file system of this one file."""
    tar = tmp_path / "root.tar"
    with tarfile.open(tar, "w") as out:
        entry = tarfile.TarInfo(name)
        entry.size = size
        out.addfile(entry, io.BytesIO(b"x" * size))
    return tar


async def test_an_imported_tree_is_an_image_until_it_is_removed(engine: PodmanEngine, tmp_path: Path, tag: str) -> None:
    tar = one_file(tmp_path, size=3_000_000)
    told: list[ImageProgress] = []
    image = await engine.image_import(tar, tag, ("LABEL dev.hal0.test=yes", "ENV A=b"), told.append)
    try:
        assert image.tags == (tag,)
        assert image.labels == {"dev.hal0.test": "yes"}
        assert image.size_bytes >= 3_000_000
        assert told[-1].fraction == pytest.approx(1.0, abs=0.01)
        assert [progress.fraction for progress in told] == sorted(progress.fraction or 0 for progress in told)
        assert await engine.image_inspect(image.id) == image
        listed = {one.id: one.tags for one in await engine.image_list()}
        assert listed[image.id] == (tag,)
    finally:
        await engine.image_remove(tag)
    assert await engine.image_inspect(tag) is None
    await engine.image_remove(tag)


async def test_an_image_in_use_is_not_removed_and_the_refusal_names_the_container(
    engine: PodmanEngine, instance: str, tmp_path: Path, tag: str
) -> None:
    image = await engine.image_import(one_file(tmp_path), tag, ('ENTRYPOINT ["/x"]',), lambda _: None)
    container = await engine.create(
        ContainerSpec(
            name=f"hal0-{instance}-x-1", image=image.id, argv=(), labels={LABEL_PREFIX + "instance": instance}
        )
    )
    try:
        with pytest.raises(Hal0Error) as caught:
            await engine.image_remove(tag)
        assert caught.value.code == "engine.failed"
        assert container[:12] in caught.value.message
    finally:
        await engine.remove(container)
        await engine.image_remove(tag)


async def test_of_two_builds_under_one_tag_the_former_can_be_removed_and_nothing_else(
    engine: PodmanEngine, tmp_path: Path, tag: str
) -> None:
    before = await engine.image_list()
    builds = [await engine.image_import(one_file(tmp_path, name), tag, (), lambda _: None) for name in ("a", "b")]
    former = frozenset(image.id for image in builds)
    try:
        (left,) = superseded(await engine.image_list(), (), former=former, used=())
        assert left.id == builds[0].id
        pruned = await remove(engine, [left])
        assert (pruned.removed, pruned.kept) == ((left,), ())
        assert superseded(await engine.image_list(), (), former=former, used=()) == []
    finally:
        await engine.image_remove(tag)
    assert {image.id for image in await engine.image_list()} == {image.id for image in before}


async def test_a_build_tells_its_steps_and_makes_the_image(engine: PodmanEngine, tmp_path: Path, tag: str) -> None:
    (tmp_path / "Containerfile").write_text(
        f"ARG BASE\nFROM {SHELL_IMAGE} AS other\nFROM ${{BASE}} AS wanted\nCOPY file /file\nLABEL dev.hal0.test=built\n"
    )
    (tmp_path / "file").write_text("content")
    told: list[ImageProgress] = []
    image = await engine.image_build(
        tmp_path,
        containerfile="Containerfile",
        target="wanted",
        tag=tag,
        build_args={"BASE": SHELL_IMAGE},
        on_progress=told.append,
    )
    try:
        assert image.labels["dev.hal0.test"] == "built"
        assert any("COPY" in progress.message for progress in told)
        assert any(progress.fraction is not None for progress in told), told
    finally:
        await engine.image_remove(tag)


async def test_a_build_that_fails_says_in_which_step(engine: PodmanEngine, tmp_path: Path, tag: str) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {SHELL_IMAGE} AS wanted\nCOPY no-such-file /file\n")
    with pytest.raises(Hal0Error) as caught:
        await engine.image_build(
            tmp_path,
            containerfile="Containerfile",
            target="wanted",
            tag=tag,
            build_args={},
            on_progress=lambda _: None,
        )
    assert "no-such-file" in caught.value.message
    assert await engine.image_inspect(tag) is None


async def test_a_pull_from_a_registry_that_does_not_answer_names_it(engine: PodmanEngine, free_port: int) -> None:
    ref = f"localhost:{free_port}/nothing:latest"
    with pytest.raises(Hal0Error) as caught:
        await engine.image_pull(ref, lambda _: None)
    assert str(free_port) in caught.value.message
