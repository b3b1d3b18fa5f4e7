"""Pulls of several addresses as one model: parts, a projector, an image model in several files."""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.records import ModelRecord
from hal0.pulls import folder, spans
from hal0.vocab import Capability, ModelId
from hal0.wire.jobs import JobState
from hal0.wire.pulls import PullRequest
from tests.fakes.hub import Hub, status
from tests.functional.curating import Curate, file
from tests.functional.pulling import FILE, GGUF, MODEL, Place, pulled, refused
from tests.tiny import gguf_models
from tests.unit.models.test_content import onnx, tensors
from tests.unit.models.test_split import COMFYUI, clip, t5, unet, vae
from tests.vloop import until


def plain(place: Place, path: str) -> str:
    return f"http://localhost:{place.hub.port}/plain/{path}"


async def files_of(place: Place, model: str) -> list[str]:
    registry = await asyncio.to_thread(place.registry)
    return [path.relative_to(place.store).as_posix() for path in registry.require(model).files]


async def test_flux_in_several_files_of_several_places_is_one_model(place: Place) -> None:
    """A file of the hub is held against what it publishes; addresses against the digests behind them."""
    place.hub.files = {f"{name.replace('__', '/')}.safetensors": tensors(dict(it)) for name, it in COMFYUI.items()}
    first, *others = place.hub.files
    async with place.hal0() as pulls:
        job = await pulled(pulls, f"acme/tiny/{first}", more=[plain(place, path) for path in others])

        assert (job.view.state, job.view.target) == (JobState.DONE, "flux1-schnell")
        assert await files_of(place, "flux1-schnell") == [
            f"flux1-schnell/{name}.safetensors" for name in ("flux1-schnell", "t5xxl_fp8", "clip_l", "ae")
        ]
        registry = await asyncio.to_thread(place.registry)
        (record,) = registry.records()
        assert record.license == "apache-2.0"

    # What is gone comes again by its name alone.
    await asyncio.to_thread(shutil.rmtree, place.store)
    async with place.hal0() as pulls:
        assert (await pulled(pulls, "flux1-schnell")).view.state is JobState.DONE
    assert len(await files_of(place, "flux1-schnell")) == 4


async def test_files_of_one_name_do_not_replace_each_other(place: Place) -> None:
    shapes = {"a/model": unet(), "b/model": t5(), "c/model": clip(), "c/ae": vae()}
    place.hub.files = {f"{name}.safetensors": tensors(dict(it)) for name, it in shapes.items()}
    first, *others = (plain(place, path) for path in place.hub.files)
    async with place.hal0() as pulls:
        assert (await pulled(pulls, first, more=others)).view.target == "a"  # what is called just model is its folder's
    assert await files_of(place, "a") == [f"a/{name}.safetensors" for name in ("model", "2/model", "3/model", "ae")]


async def test_what_has_no_name_is_given_one(place: Place) -> None:
    place.hub.files["___.gguf"] = GGUF
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error, match="give one with `id`"):
            await pulls.start(PullRequest(model=plain(place, "___.gguf")))
        assert (await pulled(pulls, plain(place, "___.gguf"), id="mine")).view.state is JobState.DONE


async def test_a_projector_comes_with_its_model(place: Place, tmp_path: Path) -> None:
    eye = await asyncio.to_thread(lambda: gguf_models.write_mmproj(tmp_path / "eye.gguf").read_bytes())
    chat = await asyncio.to_thread(lambda: gguf_models.write_chat(tmp_path / "chat.gguf").read_bytes())
    place.hub.files = {"chat.gguf": chat, "mmproj.gguf": eye}
    async with place.hal0() as pulls:
        await pulled(pulls, plain(place, "chat.gguf"), more=[plain(place, "mmproj.gguf")])
    registry = await asyncio.to_thread(place.registry)
    assert Capability.VISION in registry.require("chat").capabilities
    (record,) = registry.records()
    assert record.digests == {"chat/mmproj.gguf": hashlib.sha256(eye).hexdigest()}


async def test_a_model_that_names_itself_among_its_files_is_looked_for_once(place: Place, curate: Curate) -> None:
    curate(MODEL, file(FILE, GGUF))
    source = {"url": plain(place, FILE), "more": f"{MODEL}\nnothing-known"}
    await asyncio.to_thread(
        lambda: place.registry().remember(ModelRecord(id=ModelId(MODEL), files=(FILE,), source=source))
    )
    async with place.hal0() as pulls:
        assert (await pulls.looking.drafted(PullRequest(model=MODEL))).model == MODEL


async def test_what_came_with_its_projector_comes_again_with_it(place: Place, tmp_path: Path) -> None:
    eye = await asyncio.to_thread(lambda: gguf_models.write_mmproj(tmp_path / "eye.gguf").read_bytes())
    chat = await asyncio.to_thread(lambda: gguf_models.write_chat(tmp_path / "chat.gguf").read_bytes())
    place.hub.files = {"Tiny-Q4_K_M.gguf": chat, "mmproj-F16.gguf": eye}
    async with place.hal0() as pulls:
        assert (await pulled(pulls)).view.target == "tiny-q4_k_m"
    await asyncio.to_thread(shutil.rmtree, place.store)
    async with place.hal0() as pulls:
        await pulled(pulls, "tiny-q4_k_m")
    registry = await asyncio.to_thread(place.registry)
    assert Capability.VISION in registry.require("tiny-q4_k_m").capabilities


async def test_what_was_given_another_name_comes_again_by_it(place: Place) -> None:
    async with place.hal0() as pulls:
        await pulled(pulls, id="mine")
    await asyncio.to_thread(shutil.rmtree, place.store)
    async with place.hal0() as pulls:
        assert (await pulled(pulls, "mine")).view.target == "mine"
    assert await files_of(place, "mine") == [FILE]


@pytest.mark.parametrize("every", [True, False])
async def test_an_address_of_one_part_means_all_of_them(place: Place, tmp_path: Path, *, every: bool) -> None:
    names = [f"big m-0000{n}-of-00002.gguf" for n in (1, 2)]
    data = await asyncio.to_thread(lambda: gguf_models.write_chat(tmp_path / "m.gguf").read_bytes())
    place.hub.files = dict.fromkeys(names, data)
    first, second = (plain(place, name.replace(" ", "%20")) + "?token=1" for name in names)
    async with place.hal0() as pulls:
        job = await pulled(pulls, first, more=[second] if every else [])
    assert (job.view.state, job.view.target) == (JobState.DONE, "big-m")
    assert await files_of(place, "big-m") == [f"big-m/{name}" for name in names]


async def test_an_address_comes_again_by_the_id_as_what_it_was_given_for(place: Place) -> None:
    names, digest = ("encoder_model.onnx", "decoder_model_merged.onnx"), hashlib.sha256(onnx()).hexdigest()
    place.hub.files |= {"m.gguf": GGUF, **dict.fromkeys(names, onnx())}
    async with place.hal0() as pulls:
        await pulled(pulls, f"{plain(place, 'm.gguf')}#sha256={demo.DIGEST}")
        first, second = (f"{plain(place, name)}#sha256={digest}" for name in names)
        await pulled(pulls, first, id="both", more=[second])
        drafts = [await pulls.looking.drafted(PullRequest(model=name)) for name in ("m", "both")]
    assert [[file.sha256 for file in draft.files] for draft in drafts] == [[demo.DIGEST], [digest] * 2]


async def test_what_is_known_of_a_part_that_has_come_outlives_the_process(place: Place, tmp_path: Path) -> None:
    names = [f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
    data = await asyncio.to_thread(lambda: gguf_models.write_chat(tmp_path / "m.gguf").read_bytes())
    place.hub.files = dict.fromkeys(names, data)
    requests = 1 + len(spans.cut(len(data)))  # for the first part: a look, and its ranges

    def hold(hub: Hub, _request: object) -> None:
        hub.held = True

    place.hub.faults.extend([lambda *_: None] * requests + [hold])
    async with place.hal0() as pulls:
        job = await pulls.start(PullRequest(model=plain(place, names[0])))
        await until(lambda: place.hub.held and pulls.views()[0].pace.done_bytes > len(data), within_s=20)
    place.hub.held = False
    async with place.hal0() as pulls:
        assert pulls.views()[0].pace.done_bytes >= len(data)
        await pulls._jobs.get(job.view.id).wait()
    (record,) = (await asyncio.to_thread(place.registry)).records()
    assert record.source is not None
    assert (record.source["etag"], record.sha256) == ('"1"', hashlib.sha256(data).hexdigest())
    assert record.digests == {f"big/{names[1]}": record.sha256}


async def test_the_digest_behind_an_address_counts(place: Place) -> None:
    place.hub.files["m.gguf"] = GGUF
    async with place.hal0() as pulls:
        error = await refused(pulls, f"{plain(place, 'm.gguf')}#sha256={'0' * 64}")
        assert error["code"] == "model.checksum"
        error = await refused(pulls, plain(place, "m.gguf"), id="x", more=[plain(place, "m.gguf")], sha256="0" * 64)
        assert error["code"] == "model.checksum"
        for made in ("12", ""):
            with pytest.raises(Hal0Error, match="it is no digest"):
                await pulls.start(PullRequest(model=f"{plain(place, 'm.gguf')}#sha256={made}"))
    assert await place.in_place() == []


async def test_a_network_alone_is_told_with_how_the_others_come_too(place: Place) -> None:
    shapes = {"flux": unet(), "t5": t5(), "clip": clip(), "ae": vae()}
    place.hub.files = {f"{name}.safetensors": tensors(dict(it)) for name, it in shapes.items()}
    first, *others = (plain(place, path) for path in place.hub.files)
    async with place.hal0() as pulls:
        error = await refused(pulls, first)
        assert (await pulled(pulls, first, more=others)).view.state is JobState.DONE
    assert "hal0ctl model pull FIRST OTHER..." in error["hint"]


async def test_a_part_that_is_missing_here_is_told_by_its_own_name(place: Place, tmp_path: Path) -> None:
    one, two = (tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2))
    await asyncio.to_thread(one.write_bytes, GGUF)
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error, match=f"cannot read {two}: No such file"):
            await pulls.start(PullRequest(model=str(one)))


async def test_two_models_are_not_one(place: Place, tmp_path: Path) -> None:
    place.hub.files = {"a.gguf": GGUF, "b.gguf": GGUF}
    async with place.hal0() as pulls:
        error = await refused(pulls, plain(place, "a.gguf"), more=[plain(place, "b.gguf")])
        job = await pulls.resume(pulls.views()[0].id)
        await job.wait()
        assert job.view.error == error  # and no file that is missed
    assert "not one whole model" in error["message"]
    assert "hal0ctl model pull FIRST OTHER..." in error["hint"]
    assert await place.in_place() == []


async def test_a_closed_file_is_told_with_the_page_of_its_own_repository(place: Place) -> None:
    place.hub.files = {"a.gguf": GGUF}
    place.hub.faults.append(status(403, X_Error_Code="GatedRepo"))
    async with place.hal0() as pulls:
        error = await refused(pulls, "acme/tiny/a.gguf", more=[plain(place, "b.gguf")])
    assert error["code"] == "pull.gated"
    assert "huggingface.co/acme/tiny" in error["hint"]


# ---- models of this machine ----


async def test_what_its_file_leaves_open_an_operator_says(place: Place, tmp_path: Path) -> None:
    async with place.hal0() as pulls:
        await asyncio.to_thread(gguf_models.write_chat, tmp_path / "a.gguf")
        assert (await pulled(pulls, str(tmp_path / "a.gguf"), task=Capability.EMBED)).view.state is JobState.DONE
        for name, write in (("b", gguf_models.write_mmproj), ("c", demo.write)):
            await asyncio.to_thread(write, tmp_path / f"{name}.gguf")
        job = await pulled(pulls, str(tmp_path / "c.gguf"), task=Capability.IMAGE)
        assert job.error is not None
        assert job.error.code == "dispatch.capability_mismatch"
    registry = await asyncio.to_thread(place.registry)
    assert registry.require("a").capabilities == {Capability.EMBED}
    assert [entry.id for entry in registry.entries()] == ["a"]


async def test_a_folder_is_looked_through_for_models(place: Place, tmp_path: Path) -> None:
    deep = tmp_path / "theirs" / "deep"

    def prepare() -> None:
        deep.mkdir(parents=True)
        gguf_models.write_chat(deep / "Chat.gguf")
        gguf_models.write_mmproj(deep / "mmproj.gguf")
        gguf_models.write_embed(deep.parent / "vectors.gguf")
        (deep.parent / "junk.gguf").write_bytes(b"GGUF")
        (place.store).mkdir(exist_ok=True)
        os.link(deep.parent / "vectors.gguf", place.store / "other-name.gguf")

    await asyncio.to_thread(prepare)
    registry = await asyncio.to_thread(place.registry)
    view = await asyncio.to_thread(folder.look, str(deep.parent), registry, allow_pickle=False)
    assert [(it.id, it.here, it.files) for it in view.items] == [
        ("chat", False, [str(deep / "Chat.gguf"), str(deep / "mmproj.gguf")]),
        ("vectors", True, [str(deep.parent / "vectors.gguf")]),
    ]
    assert [problem.file for problem in view.problems] == [str(deep.parent / "junk.gguf")]
    first, *more = view.items[0].files
    async with place.hal0() as pulls:
        assert (await pulled(pulls, first, more=more)).view.target == "chat"
    assert registry.store.joinpath("chat", "mmproj.gguf").exists()


@pytest.mark.parametrize(
    ("path", "code"),
    [("deep", "request.invalid"), ("/no/such", "model.not_found"), ("/etc/passwd", "model.not_found"),
     ("/\0", "model.not_found")],
)  # fmt: skip
async def test_what_is_no_folder_is_said(place: Place, path: str, code: str) -> None:
    registry = await asyncio.to_thread(place.registry)
    with pytest.raises(Hal0Error) as caught:
        await asyncio.to_thread(folder.look, path, registry, allow_pickle=False)
    assert caught.value.code == code


async def test_a_whole_disk_is_not_walked_through(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_MOST", 3)
    registry = await asyncio.to_thread(place.registry)
    for number in range(4):
        await asyncio.to_thread((tmp_path / f"{number}.txt").touch)
    with pytest.raises(Hal0Error, match="more than 3 files") as caught:
        await asyncio.to_thread(folder.look, str(tmp_path), registry, allow_pickle=False)
    assert caught.value.code == "request.invalid"
