"""The curated catalog: every entry is whole, and what comes of it is called and taken for what the entry says."""

import re

import pytest

from hal0.models import catalog
from hal0.models.catalog import CatalogEntry
from hal0.models.entry import legal_id
from hal0.models.kits import recognise
from hal0.providers.catalog import PROVIDERS
from hal0.pulls.sources import is_plain
from hal0.vocab import MODEL_ID, Capability, ProviderName

ENTRIES = catalog.entries()
# What a machine can be recommended to have: completion comes with chat.
TASKS = set(Capability) - {Capability.COMPLETION}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_whole(entry: CatalogEntry) -> None:
    assert MODEL_ID.match(entry.id)
    assert entry.purpose.endswith(".")
    assert re.fullmatch(r"[a-z0-9.-]+", entry.license)
    assert entry.capabilities <= PROVIDERS[entry.provider].capabilities
    assert entry.recommended_for is None or entry.recommended_for in entry.capabilities
    assert (entry.cache_bytes_per_token is None) == (entry.provider is not ProviderName.LLAMACPP)
    assert entry.size_bytes > 10**8
    for file in entry.files:
        assert is_plain(file.name)
        assert "/" not in file.name
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert (file.url is None) == (entry.repo is not None)
        assert file.url is None or file.url.startswith("https://")
        assert file.sha256 is not None or entry.repo is not None, "nobody can be asked for its digest"
    assert entry.repo is None or re.fullmatch(r"[0-9a-f]{40}", entry.revision), "what the digests are of"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_what_is_put_by_hand_into_the_models_folder_is_the_entrys_model(entry: CatalogEntry) -> None:
    """Its file gives it the entry's id; several files are a kit, or a model with its projector."""
    kit = recognise(file.name for file in entry.files)
    if kit is not None:
        assert kit.capabilities == entry.capabilities
        assert entry.provider.value == kit.architecture
    else:
        first, *beside = (file.name for file in entry.files)
        assert legal_id(first.rpartition(".")[0]) == entry.id
        assert all("mmproj" in name for name in beside)
        assert bool(beside) == (Capability.VISION in entry.capabilities)


def test_ids_and_digests_are_each_ones_own() -> None:
    digests = [file.sha256 for entry in ENTRIES for file in entry.files if file.sha256]
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)
    assert len(set(digests)) == len(digests)


def test_every_task_has_a_first_choice_that_needs_no_gpu() -> None:
    assert {entry.recommended_for for entry in ENTRIES if entry.on_cpu and entry.recommended_for} == TASKS


def test_the_first_choices_of_a_task_grow() -> None:
    for task in TASKS:
        sizes = [entry.size_bytes for entry in ENTRIES if entry.recommended_for is task]
        assert sizes == sorted(sizes), task


def test_an_entry_is_found_by_its_id() -> None:
    found = catalog.find("bge-reranker-v2-m3-q4_k_m")
    assert found is not None
    assert (found.recommended_for, found.size_bytes) == (Capability.RERANK, 438_376_864)
    assert catalog.find("nothing-i-know") is None


def test_a_projector_counts_once() -> None:
    """It is one of the files, and in their sum."""
    seeing = catalog.find("gemma-3-4b-it-q4_k_m")
    assert seeing is not None
    assert seeing.size_bytes + seeing.mmproj_bytes == 2_489_757_856 + 851_251_104
