"""Pulls of the catalog's models: by their id alone, from where the catalog says, as what the catalog says."""

import asyncio
import shutil

import numpy as np
import pytest

from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.vocab import Capability, ProviderName
from hal0.wire.jobs import JobState
from tests.fakes.hub import status
from tests.functional.curating import Curate, file
from tests.functional.pulling import FILE, GGUF, MODEL, Place, pulled, refused
from tests.unit.models.test_content import onnx, voices


async def test_an_id_is_enough_and_its_digest_is_the_catalogs_word(place: Place, curate: Curate) -> None:
    curate(MODEL, file(FILE, GGUF))
    place.hub.listing = status(500)  # nothing is asked of the hub but the file
    async with place.hal0() as pulls:
        job = await pulled(pulls, "Tiny:Q4_K_M")

    assert (job.view.state, job.view.target) == (JobState.DONE, MODEL)
    assert await place.in_place() == [FILE]
    (record,) = (await asyncio.to_thread(place.registry)).records()
    assert (record.license, record.sha256) == ("mit", demo.DIGEST)
    assert record.source is not None
    assert (record.source["catalog"], record.source["repo"]) == (MODEL, "acme/tiny")


async def test_another_file_than_the_catalogs_never_comes_into_place(place: Place, curate: Curate) -> None:
    curate(MODEL, file(FILE, GGUF, sha256="0" * 64))
    async with place.hal0() as pulls:
        assert (await refused(pulls, MODEL))["code"] == "model.checksum"
    assert await place.in_place() == []


async def test_a_digest_that_the_catalog_does_not_say_is_the_hubs(place: Place, curate: Curate) -> None:
    curate(MODEL, file(FILE, GGUF, sha256=None))
    async with place.hal0() as pulls:
        await pulled(pulls, MODEL)
    (record,) = (await asyncio.to_thread(place.registry)).records()
    assert record.sha256 == demo.DIGEST


async def test_files_of_several_addresses_are_one_model_and_come_again(place: Place, curate: Curate) -> None:
    graph, kept = onnx(), await asyncio.to_thread(voices, place.folder / "voices", af=np.zeros((4, 1, 8), "f4"))
    place.hub.files = {"a/kokoro-v1.0.onnx": graph, "b/voices-v1.0.bin": kept}
    files = [
        file(path.rpartition("/")[2], data, url=f"http://localhost:{place.hub.port}/plain/{path}")
        for path, data in place.hub.files.items()
    ]
    curate("kokoro-v1.0", *files, repo=None, provider=ProviderName.KOKORO)
    whole = ["kokoro-v1.0/kokoro-v1.0.onnx", "kokoro-v1.0/voices-v1.0.bin"]
    async with place.hal0() as pulls:
        assert (await pulled(pulls, "kokoro-v1.0")).view.state is JobState.DONE
        assert await place.in_place() == whole
        registry = await asyncio.to_thread(place.registry)
        assert registry.require("kokoro-v1.0").capabilities == {Capability.TTS}
        await asyncio.to_thread(shutil.rmtree, place.store / "kokoro-v1.0")
    async with place.hal0() as pulls:
        await pulled(pulls, "kokoro-v1.0")
    assert await place.in_place() == whole


async def test_a_model_that_nobody_knows_names_the_catalog(place: Place, curate: Curate) -> None:
    curate(MODEL, file(FILE, GGUF))
    async with place.hal0() as pulls:
        with pytest.raises(Hal0Error, match="not in the catalog") as caught:
            await pulled(pulls, "tiny-q8_0")
    assert caught.value.code == "model.not_found"
