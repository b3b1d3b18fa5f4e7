"""One slot's table: what it accepts, what it refuses, and what its profile adds."""

from typing import Any

import pytest
from pydantic import ValidationError

from hal0.config.base import parse_size
from hal0.config.profiles import BUILTIN_PROFILES, ProfileConfig, laid_over
from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig
from hal0.vocab import Device, ProviderName


def slot(**fields: Any) -> SlotConfig:
    return SlotConfig.model_validate(fields)


def test_the_figures_of_an_empty_table() -> None:
    empty = slot()
    assert (empty.idle_timeout_s, empty.unload_after_s, empty.queue_limit, empty.priority) == (600, 0, 64, 50)
    assert empty.load_on_request
    assert not empty.autoload
    assert (empty.swap, empty.on_client_gone, empty.port) == ("replace", "cancel", 0)


def test_built_ins_run_their_own_providers() -> None:
    providers = {name: table.provider for name, table in RootConfig().slots.items()}
    assert providers == {
        "primary": ProviderName.LLAMACPP,
        "embed": ProviderName.LLAMACPP,
        "stt": ProviderName.MOONSHINE,
        "tts": ProviderName.KOKORO,
        "img": ProviderName.COMFYUI,
    }


@pytest.mark.parametrize(
    ("provider", "written", "meant"),
    [
        ("llama.cpp", "Qwen3-4B:Q4_K_M", "qwen3-4b-q4_k_m"),
        ("llama.cpp", "hal0-demo-f16", "hal0-demo-f16"),
        ("flm", "llama3.2:3b", "llama3.2:3b"),
    ],
)
def test_model_ids_are_folded_except_where_they_are_somebody_elses(provider: str, written: str, meant: str) -> None:
    assert slot(provider=provider, model=written).model == meant


@pytest.mark.parametrize(
    ("value", "words"),
    [("-t 2", ("-t", "2")), ("--grammar 'a b'", ("--grammar", "a b")), (["-t", "2"], ("-t", "2")), ("", ())],
)
def test_extra_args_are_a_list_or_a_shell_string(value: object, words: tuple[str, ...]) -> None:
    assert slot(extra_args=value).extra_args == words


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_args": "--host 0.0.0.0"},
        {"extra_args": "'unbalanced"},
        {"extra_args": ["-t", 2]},
        {"env": {"LLAMA_ARG_PORT": "1"}},
        {"env": {"HAL0_X": "1"}},
        {"env": {"A B": "1"}},
        {"env": {"A": "line\nbreak"}},
        {"model": "../etc/passwd"},
        {"aliases": ["With Space"]},
        {"image": "x\x1b[0m"},
        {"hold_s": 601},
        {"idle_timeout_s": float("inf")},
        {"podman_args": "--privileged"},
    ],
)
def test_what_a_slot_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        slot(**fields)


def test_a_place_on_the_hub_is_refused_with_the_command_that_fetches_it() -> None:
    with pytest.raises(ValidationError) as caught:
        slot(model="Qwen/Qwen3-4B-GGUF:Q4_K_M")
    (fault,) = caught.value.errors()
    assert fault["ctx"]["allowed"].endswith("hal0ctl pull Qwen/Qwen3-4B-GGUF:Q4_K_M")


@pytest.mark.parametrize(
    ("text", "size"), [("8GiB", 8 * 1024**3), ("500MB", 500_000_000), ("1.5 kib", 1536), ("7", 7), ("7B", 7)]
)
def test_sizes_are_read_in_both_systems(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_profile_fills_what_the_slot_leaves_out() -> None:
    profile = ProfileConfig(
        device=Device.CUDA,
        context_size=4096,
        parallel=2,
        extra_args=("-t", "2"),
        request_defaults={"a": 1, "b": 1},
    )
    mine = slot(device="auto", context_size=8192, extra_args="-t 4", request_defaults={"b": 2})
    both = laid_over(mine, profile)
    assert (both.device, both.context_size, both.parallel) == (Device.CUDA, 8192, 2)
    assert both.extra_args == ("-t", "2", "-t", "4")
    assert both.request_defaults == {"a": 1, "b": 2}


def test_a_slot_takes_a_shipped_profile_or_its_own() -> None:
    root = RootConfig.model_validate(
        {
            "profiles": {"small": {"context_size": 512}},
            "slots": {"primary": {"profile": "small"}, "big": {"profile": "long-context"}},
        }
    )
    assert root.effective("primary").context_size == 512
    assert root.effective("big").context_size == BUILTIN_PROFILES["long-context"].context_size


def test_a_profile_is_held_to_the_same_arguments() -> None:
    with pytest.raises(ValidationError):
        ProfileConfig(extra_args=("--api-key", "x"))
