"""The images folder: the manifest is whole, and both ways of building read the one package list."""

import re
import subprocess
from pathlib import Path

import pytest

from hal0.engine.manifest import ImageEntry, images_root, read_manifest, stage_settings

ROOT = images_root()
MANIFEST = read_manifest(ROOT)
BUILDABLE = [entry for entry in MANIFEST.values() if entry.recipe]


def listed(word: str) -> set[str]:
    """The names that the llama.cpp package list gives for `word`."""
    lines = (ROOT / "llama" / "packages").read_text().splitlines()
    return {line.split()[1] for line in lines if line.split() and line.split()[0] == word}


def test_the_manifest_has_every_key_with_its_place_and_local_tag() -> None:
    assert set(MANIFEST) == {"vulkan", "rocm", "cuda", "cpu", "flm", "moonshine", "kokoro", "comfyui"}
    for key, entry in MANIFEST.items():
        assert entry.ref == f"ghcr.io/hal0ai/hal0-toolbox-{key}"
        assert entry.local_tag == f"localhost/hal0-toolbox-{key}:latest"


def test_nothing_can_be_pulled_without_a_digest() -> None:
    assert all((entry.pull_ref is None) == (entry.digest is None) for entry in MANIFEST.values())


@pytest.mark.parametrize("entry", BUILDABLE, ids=lambda entry: entry.key)
def test_the_containerfile_builds_what_rootfs_builds(entry: ImageEntry) -> None:
    """The container runs the same script on the same list: it names no package, and copies only the script's tree."""
    assert entry.recipe
    text = (ROOT / entry.recipe.containerfile).read_text()
    target = entry.recipe.target
    instructions = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert f"RUN /build/rootfs.sh /build/rootfs.tar {target} " in text
    assert "COPY llama/packages /build/llama/packages" in instructions
    assert f"FROM scratch AS {target}" in instructions
    assert f"COPY --from=unpacked-{target} /rootfs/ /" in instructions
    assert not re.search(r"apt|dpkg", text)
    assert target in listed("target")


@pytest.mark.parametrize("entry", BUILDABLE, ids=lambda entry: entry.key)
def test_an_imported_image_runs_as_the_containerfiles_stage_does(entry: ImageEntry) -> None:
    assert entry.recipe
    settings = stage_settings((ROOT / entry.recipe.containerfile).read_text(), entry.recipe.target)
    assert settings == ("ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", 'ENTRYPOINT ["/usr/bin/llama-server"]')


def test_the_package_list_has_only_words_that_the_script_knows() -> None:
    words = {line.split()[0] for line in (ROOT / "llama" / "packages").read_text().splitlines() if line.strip()}
    assert words - {"#"} == {"target", "all", "omit"} | (listed("target") - {"cpu"})


def test_an_unknown_target_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "rootfs.sh", tmp_path / "x.tar", "gpu"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "knows no target gpu" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_host_without_apt_is_told_so(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "realpath", "awk", "grep"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        [tmp_path / "bash", ROOT / "rootfs.sh", tmp_path / "x.tar", "cpu"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "needs Debian or a relative of it" in done.stderr
