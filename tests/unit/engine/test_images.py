"""Where an image comes from, and what happens on the way when something is missing or wrong."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hal0.config.images import ImagesConfig
from hal0.engine import build
from hal0.engine.base import ImageInfo, ImageProgress
from hal0.engine.build import sweep
from hal0.engine.builds import Builds
from hal0.engine.images import Choice, ImageService, Source, choose
from hal0.engine.manifest import ImageEntry, images_root, read_manifest, stage_settings
from hal0.errors import Hal0Error
from hal0.lib.clock import SystemClock
from hal0.lib.jsonio import loads
from hal0.vocab import Device
from tests.factories import container_spec
from tests.fakes.engine import Delays, FakeEngine
from tests.fakes.slots import settled
from tests.unit.engine.test_program import running

DIGEST = "sha256:" + "d" * 64
CPU = ImageEntry(
    key="cpu", ref="r.example/cpu", digest=None, containerfile="Containerfile", target="cpu", devices=(Device.CPU,)
)
PUBLISHED = CPU.model_copy(update={"digest": DIGEST})
UNBUILDABLE = CPU.model_copy(update={"containerfile": None, "target": None})
A, B, C = (ImageInfo(letter * 64, (), (), 1) for letter in "abc")


@pytest.mark.parametrize(
    ("entry", "recorded", "tagged", "pulled", "choice"),
    [
        (PUBLISHED, A, B, C, Choice(Source.LOCAL, A)),
        (PUBLISHED, None, B, C, Choice(Source.LOCAL, B)),
        (PUBLISHED, None, None, C, Choice(Source.LOCAL, C)),
        (PUBLISHED, None, None, None, Choice(Source.PULL)),
        (CPU, None, None, None, Choice(Source.BUILD)),
        (UNBUILDABLE, None, None, None, Choice(Source.NONE)),
    ],
)
def test_a_local_build_comes_before_a_pull_and_a_pull_before_a_build(
    entry: ImageEntry, recorded: ImageInfo | None, tagged: ImageInfo | None, pulled: ImageInfo | None, choice: Choice
) -> None:
    assert choose(entry, recorded=recorded, tagged=tagged, pulled=pulled) == choice


def test_the_settings_of_a_stage_are_its_lines_that_copy_nothing() -> None:
    text = 'FROM x\nENV A=1\nFROM scratch AS b\n# why\nCOPY --from=a / /\nENV B=2\nENTRYPOINT ["/b"]\nFROM y\nENV C=3'
    assert stage_settings(text, "b") == ("ENV B=2", 'ENTRYPOINT ["/b"]')


@dataclass
class Bench:
    """A service over an empty image store, its folder of images, and the progress that was told."""

    engine: FakeEngine
    root: Path
    record_file: Path
    service: ImageService
    told: list[str]

    def tell(self, progress: ImageProgress) -> None:
        self.told.append(progress.message)

    def script(self, body: str) -> None:
        (self.root / "rootfs.sh").write_text(body)

    def serve(self, entry: ImageEntry) -> ImageService:
        return ImageService(
            self.engine, {entry.key: entry}, root=self.root, record_file=self.record_file, clock=SystemClock()
        )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    root, state = tmp_path / "images", tmp_path / "state"
    root.mkdir()
    state.mkdir()
    (root / "Containerfile").write_text('FROM scratch AS cpu\nENTRYPOINT ["/bin/it"]\n')
    engine = FakeEngine(delays=Delays(pull=0.02))
    engine.images.clear()
    service = ImageService(engine, {"cpu": CPU}, root=root, record_file=state / "images.json", clock=SystemClock())
    bench = Bench(engine, root, state / "images.json", service, [])
    bench.script('echo unpacking\necho "$2 $3" > "$1"\n')
    yield bench
    await service.aclose()
    await engine.aclose()
    assert [path.name for path in state.iterdir() if path.name.startswith("image-")] == []


def verbs(bench: Bench) -> list[str]:
    return [call.verb for call in bench.engine.calls if call.verb not in ("image_inspect", "image_list")]


async def rebuilt(bench: Bench, times: int) -> list[str]:
    """The ids of so many builds, one after the other, each of another content."""
    ids: list[str] = []
    for number in range(times):
        (bench.root / "Containerfile").write_text(f"FROM scratch AS cpu\nENV BUILD={number}\n")
        ids.append((await bench.service.build("cpu", bench.tell, force=True)).id)
    return ids


async def test_a_build_from_packages_is_imported_tagged_and_remembered(bench: Bench) -> None:
    image_id = await bench.service.ensure("cpu", bench.tell)
    assert bench.engine.images[image_id].tags == ("localhost/hal0-toolbox-cpu:latest",)
    assert loads(bench.record_file.read_bytes())["built"]["cpu"]["id"] == image_id
    assert bench.told[0] == "unpacking"
    assert await bench.service.ensure("cpu", bench.tell) == image_id
    assert verbs(bench) == ["image_import"]


async def test_the_remembered_build_counts_when_its_tag_was_moved(bench: Bench) -> None:
    built = await bench.service.ensure("cpu", bench.tell)
    stranger = ImageInfo("f" * 64, ("localhost/hal0-toolbox-cpu:latest",), (), 1)
    bench.engine.images = {built: replace(bench.engine.images[built], tags=()), stranger.id: stranger}
    assert await bench.service.ensure("cpu", bench.tell) == built
    with pytest.raises(Hal0Error, match="cannot vouch for cpu") as caught:
        await bench.service.verify("cpu")
    assert caught.value.code == "image.digest_mismatch"


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"schema": 2}'])
async def test_a_damaged_record_is_made_up_for_by_the_tag(bench: Bench, damage: bytes) -> None:
    built = await bench.service.ensure("cpu", bench.tell)
    bench.record_file.write_bytes(damage)
    assert await bench.service.ensure("cpu", bench.tell) == built


async def test_a_host_without_packages_builds_in_a_container(bench: Bench) -> None:
    bench.script("echo 'cannot build the image: no mirror' >&2; exit 3")
    await bench.service.ensure("cpu", bench.tell)
    assert verbs(bench) == ["image_build"]
    assert "building in a container, since here no mirror" in bench.told


async def test_a_failed_build_says_the_failing_steps_own_words(bench: Bench) -> None:
    bench.script("echo fetching; echo 'cannot build the image: the packages could not be fetched' >&2; exit 1")
    with pytest.raises(Hal0Error) as caught:
        await bench.service.ensure("cpu", bench.tell)
    assert caught.value.code == "image.build_failed"
    assert caught.value.message == "cannot build image cpu: the packages could not be fetched"
    assert verbs(bench) == []


async def test_a_build_that_has_no_place_for_its_files_says_so(bench: Bench) -> None:
    (state := bench.record_file.parent).rmdir()
    with pytest.raises(Hal0Error, match=f"its files cannot be made in {state}: No such file") as caught:
        await bench.service.build("cpu", bench.tell)
    assert caught.value.code == "image.build_failed"
    state.mkdir()


async def test_a_build_that_falls_silent_is_given_up_and_one_that_goes_on_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_QUIET_S", 0.5)
    bench.script("for n in 1 2 3 4 5 6 7 8 9; do sleep 0.06; echo $n MB so far; done; : > $1")
    await bench.service.build("cpu", bench.tell)
    bench.script("echo fetching; exec sleep 60")
    with pytest.raises(Hal0Error, match="nothing has come for") as caught:
        await bench.service.build("cpu", bench.tell, force=True)
    assert caught.value.code == "image.build_failed"


async def test_what_is_neither_published_nor_buildable_is_missing(bench: Bench) -> None:
    with pytest.raises(Hal0Error, match="it is not published, and no packages make it") as caught:
        await bench.serve(UNBUILDABLE).ensure("cpu", bench.tell)
    assert caught.value.code == "image.missing"


async def test_an_unpublished_image_is_never_pulled(bench: Bench) -> None:
    with pytest.raises(Hal0Error) as caught:
        await bench.service.pull("cpu", bench.tell)
    assert caught.value.code == "image.missing"
    assert verbs(bench) == []


async def test_a_published_image_is_pulled_by_its_digest(bench: Bench) -> None:
    ref = f"r.example/cpu@{DIGEST}"
    bench.engine.registry[ref] = replace(A, digests=(ref,))
    assert await bench.serve(PUBLISHED).ensure("cpu", bench.tell) == A.id


async def test_another_digest_than_asked_for_is_refused_and_not_built_around(bench: Bench) -> None:
    bench.engine.registry[f"r.example/cpu@{DIGEST}"] = replace(A, digests=("r.example/cpu@sha256:" + "e" * 64,))
    with pytest.raises(Hal0Error) as caught:
        await bench.serve(PUBLISHED).ensure("cpu", bench.tell)
    assert caught.value.code == "image.digest_mismatch"
    assert verbs(bench) == ["image_pull"]


async def test_a_pull_that_fails_is_made_up_for_by_a_build(bench: Bench) -> None:
    await bench.serve(PUBLISHED).ensure("cpu", bench.tell)
    assert verbs(bench) == ["image_pull", "image_import"]


async def test_an_own_image_is_used_as_it_is_but_only_pulled_by_digest(bench: Bench) -> None:
    bench.engine.images[B.id] = replace(B, tags=("mine:1",))
    assert await bench.service.ensure("mine:1", bench.tell) == B.id
    with pytest.raises(Hal0Error, match="only images named by digest are pulled") as caught:
        await bench.service.ensure("mine:2", bench.tell)
    assert caught.value.code == "image.missing"


async def test_callers_share_one_build_and_all_hear_of_it(bench: Bench) -> None:
    heard: list[list[str]] = [[] for _ in range(5)]
    ids = await asyncio.gather(
        *(bench.service.ensure("cpu", lambda p, own=own: own.append(p.message)) for own in heard)  # type: ignore[misc]
    )
    assert len(set(ids)) == 1
    assert verbs(bench) == ["image_import"]
    assert all("unpacking" in own for own in heard)


async def test_the_last_caller_to_leave_ends_the_build_and_its_children(bench: Bench, tmp_path: Path) -> None:
    started = asyncio.Event()
    bench.script("sleep 600 & echo $!; wait")
    pids: list[int] = []

    def hear(progress: ImageProgress) -> None:
        pids.append(int(progress.message))
        started.set()

    first = asyncio.ensure_future(bench.service.ensure("cpu", hear))
    second = asyncio.ensure_future(bench.service.ensure("cpu", bench.tell))
    async with asyncio.timeout(10):
        await started.wait()
    first.cancel()
    await asyncio.wait({first})
    assert running(pids[0])
    second.cancel()
    await asyncio.wait({second})
    assert not running(pids[0])


async def test_force_builds_again(bench: Bench) -> None:
    await bench.service.build("cpu", bench.tell)
    await bench.service.build("cpu", bench.tell)
    await bench.service.build("cpu", bench.tell, force=True)
    assert verbs(bench) == ["image_import", "image_import"]


async def test_builds_that_another_took_the_place_of_are_removed_when_asked(bench: Bench) -> None:
    first, second, third = await rebuilt(bench, 3)
    strangers = {image.id: image for image in (A, replace(B, tags=("mine:1",)))}
    bench.engine.images |= strangers
    pruned = await bench.service.prune([second])
    assert [image.id for image in pruned.removed] == [first]
    assert bench.engine.images.keys() == {second, third} | strangers.keys()
    assert [image.id for image in (await bench.service.prune([])).removed] == [second]
    assert (await bench.service.prune([])).removed == ()
    assert await bench.service.ensure("cpu", bench.tell) == third
    assert loads(bench.record_file.read_bytes())["former"] == []


async def test_a_build_that_a_container_still_uses_stays_until_it_is_gone(bench: Bench) -> None:
    first, _ = await rebuilt(bench, 2)
    container = await bench.engine.create(replace(container_spec(), image=first))
    pruned = await bench.service.prune([])
    assert (pruned.removed, [image.id for image, _ in pruned.kept]) == ((), [first])
    assert container_spec().name in pruned.kept[0][1]
    await bench.engine.remove(container)
    assert [image.id for image in (await bench.service.prune([])).removed] == [first]


async def test_what_was_pulled_for_an_earlier_manifest_is_removed_when_asked(bench: Bench) -> None:
    now, before = f"r.example/cpu@{DIGEST}", "r.example/cpu@sha256:" + "e" * 64
    bench.engine.registry[now] = replace(A, digests=(now,))
    bench.engine.images[B.id] = replace(B, digests=(before,))
    bench.engine.images[C.id] = replace(C, digests=("r.example/other@sha256:" + "e" * 64,))
    service = bench.serve(PUBLISHED)
    await service.ensure("cpu", bench.tell)
    assert (await service.prune([before])).removed == ()
    assert [image.id for image in (await service.prune([])).removed] == [B.id]
    assert bench.engine.images.keys() == {A.id, C.id}


async def test_two_builds_that_end_at_once_are_both_remembered(tmp_path: Path) -> None:
    builds = Builds(tmp_path / "images.json", SystemClock())
    await asyncio.gather(*(builds.remember(key, f"id of {key}", f"{key}:latest") for key in ("cpu", "vulkan", "img")))
    assert await builds.ids() == {key: f"id of {key}" for key in ("cpu", "vulkan", "img")}


async def test_an_unknown_key_is_told_with_the_known_ones(bench: Bench) -> None:
    with pytest.raises(Hal0Error, match="the keys are cpu") as caught:
        await bench.service.build("gpu", bench.tell)
    assert caught.value.code == "image.not_found"


async def test_files_of_a_build_that_was_killed_are_swept_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / "image-abc"
    left.mkdir()
    (left / "rootfs.tar").write_bytes(b"x")
    kept = [tmp_path / "slots", tmp_path / "images.json"]
    kept[0].mkdir()
    kept[1].write_text("{}")
    await sweep(tmp_path)
    await settled(lambda: sorted(tmp_path.iterdir()) == sorted(kept))


async def test_a_start_does_not_wait_for_what_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what a build makes meanwhile taken for a rest."""
    done, removed = threading.Event(), list[Path]()

    def slowly(folder: Path, *, ignore_errors: bool) -> None:
        assert ignore_errors
        assert done.wait(5)
        folder.rmdir()
        removed.append(folder)

    monkeypatch.setattr("hal0.engine.build.shutil.rmtree", slowly)
    (tmp_path / "image-left").mkdir()
    await asyncio.wait_for(sweep(tmp_path), 2)
    (tmp_path / "image-new").mkdir()
    done.set()
    await settled(lambda: removed == [tmp_path / "image-left"])


async def test_what_a_killed_build_still_writes_hides_no_reason_and_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, gone = tmp_path / "image-x", shutil.rmtree
    folder.mkdir()
    looks: list[Path] = []

    def dying(path: Path, *, ignore_errors: bool) -> None:
        """While it is taken away, somebody writes into it once more."""
        looks.append(path)
        if len(looks) > 1:
            gone(path, ignore_errors=ignore_errors)

    monkeypatch.setattr("hal0.engine.build.shutil.rmtree", dying)
    monkeypatch.setattr("hal0.engine.build._LOOK_S", 0.0)
    await sweep(tmp_path)
    await settled(lambda: looks == [folder, folder])
    assert not folder.exists()
    looks.clear()
    monkeypatch.setattr("hal0.engine.build.shutil.rmtree", lambda *_args, **_options: None)  # it never dies
    await asyncio.to_thread(build._remove, [folder, tmp_path])


async def test_the_users_own_image_takes_the_place_of_a_key(bench: Bench) -> None:
    own = f"r.example/mine@{DIGEST}"
    wanted: dict[str, str] = {"cpu": own}
    service = ImageService(
        bench.engine,
        {"cpu": CPU},
        root=bench.root,
        record_file=bench.record_file,
        clock=SystemClock(),
        instead_of=wanted.get,
    )
    (state,) = await service.list()
    assert (state.choice, state.note) == (Choice(Source.PULL), f"{own} is used instead, as [images] in hal0.toml says")
    bench.engine.registry[own] = replace(A, digests=(own,))
    assert await service.ensure("cpu", bench.tell) == A.id
    assert await service.local("cpu") == A.id
    assert (await service.verify("cpu")).choice.source is Source.LOCAL
    wanted["cpu"] = "localhost/mistyped"
    with pytest.raises(Hal0Error, match="cannot use image localhost/mistyped"):
        await service.ensure("cpu", bench.tell)
    assert (await service.list())[0].choice == Choice(Source.NONE)


def test_every_image_of_the_manifest_can_be_replaced() -> None:
    manifest = read_manifest(images_root())
    names = {key.replace("-", "_") for key in manifest}
    assert names == set(ImagesConfig.model_fields)
    assert ImagesConfig(comfyui_cpu="localhost/mine").instead_of("comfyui-cpu") == "localhost/mine"
    assert all(ImagesConfig().instead_of(key) is None for key in manifest)
