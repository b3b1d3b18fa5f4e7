"""The images folder: the manifest is whole, and both ways of building read the one package list."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from hal0.engine.manifest import ImageEntry, images_root, read_manifest, stage_settings

ROOT = images_root()
MANIFEST = read_manifest(ROOT)
BUILDABLE = [entry for entry in MANIFEST.values() if entry.recipe]


RECIPES = sorted({entry.recipe.folder for entry in BUILDABLE if entry.recipe})
WORDS = {"suite", "component", "target", "all", "omit", "tool", "copy", "host"}


def listed(recipe: str, word: str) -> set[str]:
    """The names that a recipe's package list gives for `word`."""
    lines = (ROOT / recipe / "packages").read_text().splitlines()
    return {line.split()[1] for line in lines if line.split() and line.split()[0] == word}


def test_the_manifest_has_every_key_with_its_place_and_local_tag() -> None:
    promised = {"vulkan", "rocm", "cuda", "cpu", "flm", "moonshine", "kokoro", "comfyui"}
    assert set(MANIFEST) == promised | {"comfyui-cpu", "kokoro-vulkan", "f5-tts"}
    for key, entry in MANIFEST.items():
        assert entry.ref == f"ghcr.io/hal0ai/hal0-toolbox-{key}"
        assert entry.local_tag == f"localhost/hal0-toolbox-{key}:latest"


def test_every_image_can_be_built() -> None:
    assert list(MANIFEST.values()) == BUILDABLE


def test_weights_that_are_not_free_are_said_to_be_that() -> None:
    assert "CC-BY-NC-4.0: not for commercial use" in (MANIFEST["f5-tts"].note or "")


def test_nothing_can_be_pulled_without_a_digest() -> None:
    assert all((entry.pull_ref is None) == (entry.digest is None) for entry in MANIFEST.values())


@pytest.mark.parametrize("entry", BUILDABLE, ids=lambda entry: entry.key)
def test_the_containerfile_builds_what_rootfs_builds(entry: ImageEntry) -> None:
    """The container runs the same script on the same list: it names no package, and copies only the script's tree."""
    assert entry.recipe
    text = (ROOT / entry.recipe.containerfile).read_text()
    recipe, target = entry.recipe.folder, entry.recipe.target
    instructions = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert f"RUN /build/rootfs.sh /build/rootfs.tar {recipe} {target} " in text
    assert f"ARG BASE=debian:{''.join(listed(recipe, 'suite'))}-slim" in instructions, "an apt that reads this release"
    assert f"FROM scratch AS {target}" in instructions
    assert f"COPY --from=unpacked-{target} /rootfs/ /" in instructions
    assert not re.search(r"apt|dpkg|pip|://", text)
    assert text.count("ARG HAL0_TORCH_INDEX\n") == len(list((ROOT / recipe).glob("wheels-*")))
    needed = {"rootfs.sh", f"{recipe}/packages", *listed(recipe, "copy")}
    needed |= {
        f"{recipe}/{file.name}" for file in (ROOT / recipe).iterdir() if re.search(r"\.lock$|^wheels-", file.name)
    }
    copied = [line.split() for line in instructions if line.startswith("COPY ") and "--from" not in line]
    assert {source for _, source, _ in copied} == needed
    assert all(place == f"/build/{source}" for _, source, place in copied)


@pytest.mark.parametrize("entry", BUILDABLE, ids=lambda entry: entry.key)
def test_an_imported_image_runs_as_the_containerfiles_stage_does(entry: ImageEntry) -> None:
    assert entry.recipe
    settings = stage_settings((ROOT / entry.recipe.containerfile).read_text(), entry.recipe.target)
    words = [setting.split()[0] for setting in settings]
    assert (words.count("ENTRYPOINT"), set(words) - {"ENV", "USER", "ENTRYPOINT"}) == (1, set())
    assert {"ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "USER 65534:65534"} <= set(settings)
    assert all(setting.count("=") == 1 for setting in settings if setting.startswith("ENV")), "imported as one value"


def test_flm_is_the_child_of_an_init_of_its_own_and_its_tree_is_the_machines() -> None:
    settings = stage_settings((ROOT / "flm" / "Containerfile").read_text(), "npu")
    assert settings[-1] == 'ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/opt/fastflowlm/bin/flm"]'
    assert (listed("flm", "host"), "tini" in listed("flm", "all")) == ({"/opt/fastflowlm"}, True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_package_list_has_only_words_that_the_script_knows(recipe: str) -> None:
    lines = (ROOT / recipe / "packages").read_text().splitlines()
    words = {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}
    assert words <= WORDS | listed(recipe, "target")
    assert len(listed(recipe, "suite")) == 1
    assert {entry.recipe.target for entry in BUILDABLE if entry.recipe and entry.recipe.folder == recipe} <= listed(
        recipe, "target"
    )
    assert all((ROOT / path).exists() for path in listed(recipe, "copy"))


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if (ROOT / recipe / "requirements.in").exists()])
def test_an_images_wheels_are_locked_by_their_content_and_from_no_place(recipe: str) -> None:
    wanted = re.findall(r"^([a-z0-9-]+)", (ROOT / recipe / "requirements.in").read_text(), re.MULTILINE)
    lock = (ROOT / recipe / "requirements.lock").read_text()
    pinned = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert set(wanted) <= set(pinned)
    assert len(pinned) == len(re.findall(r"^\S", lock, re.MULTILINE))
    assert "://" not in lock
    assert "python3-pip-whl" in listed(recipe, "tool")
    assert {"python3"} <= listed(recipe, "all")


def test_pytorch_for_a_gpu_comes_from_where_the_builder_says_and_stands_in_the_place_of_debians(tmp_path: Path) -> None:
    assert (MANIFEST["comfyui"].devices, MANIFEST["comfyui"].on_request) == (("rocm", "cuda"), True)
    assert "HAL0_TORCH_INDEX" in (MANIFEST["comfyui"].note or "")
    wheels = re.findall(r"^([a-z]+)", (ROOT / "comfyui" / "wheels-gpu").read_text(), re.MULTILINE)
    assert wheels == ["torch", "torchvision", "torchaudio"]
    assert listed("comfyui", "cpu") == {f"python3-{name}" for name in wheels}
    assert listed("comfyui", "gpu") == set()
    done = subprocess.run(
        [ROOT / "rootfs.sh", tmp_path / "x.tar", "comfyui", "gpu"],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "set HAL0_TORCH_INDEX, in hal0's environment," in done.stderr


def test_a_build_says_that_it_goes_on_as_long_as_something_comes(tmp_path: Path) -> None:
    """The script's own function, with its own settings, at a faster beat; what is packed is not there yet."""
    script = (ROOT / "rootfs.sh").read_text()
    grow = script[script.index("grow() {") : script.index("grow &")].replace("-t 20 ", "-t 0.1 ")
    body = (
        f"set -euo pipefail\nwork={tmp_path} out={tmp_path}/out/x.tar\nsay() {{ printf '%s\\n' \"$*\"; }}\n{grow}\n"
        "grow &\nfor n in 1 2 3; do head -c 2M /dev/urandom > $work/$n; sleep 0.35; done\nsleep 0.3; kill $!"
    )
    done = subprocess.run(["bash", "-c", body], capture_output=True, text=True, timeout=120, check=True)
    told = [int(line.removesuffix(" MB so far")) for line in done.stdout.splitlines()]
    assert told == sorted(set(told)), "nothing is told twice"
    assert len(told) >= 3
    assert told[-1] >= 6


@pytest.mark.parametrize(("room", "told"), [(3, True), (300, False), ("", False)])
def test_a_build_that_fails_on_a_full_disk_says_so_last_and_leaves_nothing(
    tmp_path: Path, room: object, told: bool
) -> None:
    script = (ROOT / "rootfs.sh").read_text()
    finish = script[script.index("finish() {") : script.index("trap finish")]
    (tmp_path / "work").mkdir()
    body = (
        f"set -euo pipefail\nwork={tmp_path}/work out={tmp_path}/x.tar pulse=\nsay() {{ printf '%s\\n' \"$*\"; }}\n"
        f"df() {{ printf 'Avail\\n{room}\\n'; }}\n{finish}\ntrap finish EXIT\n"
        "echo 'tar: Exiting with failure status due to previous errors' >&2; exit 2"
    )
    done = subprocess.run(["bash", "-c", body], capture_output=True, text=True, timeout=120, check=False)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.startswith(f"cannot build the image: the disk of {tmp_path} is full")) == (2, told)
    assert told or last.startswith("tar: ")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "rootfs.sh", tmp_path / "x.tar", "llama", "gpu"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "knows no target gpu" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_has_to_be_on_the_machine_is_asked_for_before_anything_is_fetched(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "packages").write_text(f"suite forky\ntarget npu\nall tini\nhost {tmp_path}/opt/program\n")
    done = subprocess.run(
        [ROOT / "rootfs.sh", tmp_path / "x.tar", recipe, "npu"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr
        == f"cannot build the image: {tmp_path}/opt/program is not on this machine: install the program there first\n"
    )


def test_a_host_without_apt_is_told_so(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "realpath", "awk", "grep"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        [tmp_path / "bash", ROOT / "rootfs.sh", tmp_path / "x.tar", "llama", "cpu"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "needs Debian or a relative of it" in done.stderr


@pytest.mark.parametrize("entry", BUILDABLE, ids=lambda entry: entry.key)
def test_no_runtime_in_an_image_reports_to_its_makers(entry: ImageEntry) -> None:
    """ONNX Runtime does, as long as nobody tells it not to."""
    assert entry.recipe
    locks = [lock.read_text() for lock in (ROOT / entry.recipe.folder).glob("*.lock")]
    settings = " ".join(stage_settings((ROOT / entry.recipe.containerfile).read_text(), entry.recipe.target))
    assert "ORT_DISABLE_TELEMETRY=1" in settings or not any("\nonnxruntime" in lock for lock in locks)
