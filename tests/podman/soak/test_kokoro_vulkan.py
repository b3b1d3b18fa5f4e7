"""Kokoro on Vulkan: Mesa's software driver takes the place of a GPU, and without a driver nothing is pretended."""

import subprocess
from pathlib import Path

import pytest

from tests.podman.service import Podman
from tests.tiny.kokoro_model import write_kokoro

SPEAK = """
from pathlib import Path
import numpy as np
from serving.app import UnusableError
from speech.kokoro_backend import KokoroBackend
backend = KokoroBackend(Path("/models/tiny"))
try:
    backend.load()
except UnusableError as fault:
    raise SystemExit(f"{fault}")
spoken = backend.speaker("af_bella", None, "The river is wide.").say("The river is wide.", 1.0)
tone = np.abs(np.fft.rfft(spoken.samples)).argmax() * 24000 / len(spoken.samples)
print(backend._kokoro.sess.get_providers()[0], round(tone))
"""
START_S = 120.0


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return podman.built("kokoro-vulkan")


def spoken(podman: Podman, image: str, models: Path, *env: str) -> "subprocess.CompletedProcess[str]":
    argv = ["podman", "run", "--rm", "--network", "none", "-v", f"{models}:/models:ro"]
    argv += [
        word for setting in ("ONNX_PROVIDER=WebGpuExecutionProvider", "HOME=/tmp", *env) for word in ("-e", setting)
    ]
    return subprocess.run(
        [*argv, "--entrypoint", "/usr/bin/python3", image, "-c", SPEAK],
        env=dict(podman.environ), capture_output=True, text=True, timeout=START_S, check=False,
    )  # fmt: skip


def test_it_speaks_on_a_vulkan_driver_and_refuses_without_one(podman: Podman, image: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_kokoro(models / "tiny")
    tmp_path.chmod(0o755)
    done = spoken(podman, image, models)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "WebGpuExecutionProvider 340\n"
    without = spoken(podman, image, models, "VK_DRIVER_FILES=/nonexistent")
    assert without.returncode == 1
    assert "cannot use WebGpuExecutionProvider" in without.stderr
