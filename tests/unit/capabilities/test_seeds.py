"""What a new machine's hal0.toml names: looked at on recorded machines, written, and read again."""

from pathlib import Path

from hal0.capabilities.seeds import seeds
from hal0.config.load import load
from hal0.config.template import write_first
from hal0.models import catalog
from hal0.paths import resolve
from hal0.vocab import BUILTIN_SLOTS
from tests.unit.hardware import trees


def test_a_small_machines_slots_name_small_models(tmp_path: Path) -> None:
    trees.cpu_only_vm(tmp_path)
    assert seeds(tmp_path) == {
        "primary": {"model": "qwen3-1.7b-q8_0", "context_size": 8192},
        "embed": {"model": "nomic-embed-text-v1.5.q8_0"},
        "stt": {"model": "moonshine-tiny-float"},
        "tts": {"model": "kokoro-v1.0"},
        "img": {"model": "v1-5-pruned-emaonly-fp16"},
    }


def test_a_large_ones_get_what_it_was_bought_for(tmp_path: Path) -> None:
    trees.strix_halo(tmp_path)
    found = seeds(tmp_path)
    assert tuple(found) == BUILTIN_SLOTS
    assert found[BUILTIN_SLOTS[0]] == {"model": "gpt-oss-120b-mxfp4"}


def test_nvidia_s_own_program_is_asked_for_what_its_cards_have(tmp_path: Path) -> None:
    """They count once podman can be given them."""
    trees.nvidia(tmp_path)
    program = ("echo", "00000000:01:00.0, 98304, 98000, 0, 40, 20")
    on_processor = seeds(tmp_path, program)
    trees.write(tmp_path, {"etc/cdi/nvidia.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []"})
    assert seeds(tmp_path, program)[BUILTIN_SLOTS[0]] == {"model": "gpt-oss-120b-mxfp4"}
    assert seeds(tmp_path, ("false",)) == on_processor


def test_a_machine_that_tells_nothing_gets_nothing(tmp_path: Path) -> None:
    assert seeds(tmp_path) == {}


def test_the_first_file_with_them_is_valid_and_says_how_to_get_them(tmp_path: Path) -> None:
    trees.cpu_only_vm(tmp_path / "machine")
    paths = resolve({"HAL0_HOME": str(tmp_path / "home")})
    write_first(paths, lambda: seeds(tmp_path / "machine"))
    slots = load(paths).root.slots
    assert (slots["primary"].model, slots["primary"].context_size) == ("qwen3-1.7b-q8_0", 8192)
    assert all(slot.model and catalog.find(slot.model) for slot in slots.values())
    assert "`hal0ctl slot load NAME` fetches the\n# one of a slot" in paths.config_file.read_text()
