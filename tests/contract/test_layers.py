"""The import contracts hold, and each of them would notice its own breach."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]

# One import per contract that breaks it, appended to a module of a copy.
BREACHES = {
    "layers": ("hal0/events/bus.py", "import hal0.slots.state"),
    "ground": ("hal0/lib/ring.py", "import pydantic"),
    "clients": ("hal0/client.py", "import hal0.wire.base"),
    "adapter": ("hal0/models/gguf.py", "import hal0.engine.podman"),
    "pure": ("hal0/vocab.py", "import asyncio"),
    "providers": ("hal0/providers/base.py", "import hal0.providers.catalog"),
    "processes": ("hal0/models/ggml.py", "import subprocess"),
    "codec": ("hal0/paths.py", "import orjson"),
}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--no-logo"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def contracts() -> dict[str, str]:
    """Names of the contracts by id."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {table["id"]: table["name"] for table in tables}


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_notices_its_breach(tmp_path: Path) -> None:
    assert contracts().keys() == BREACHES.keys()
    shutil.copytree(ROOT / "hal0", tmp_path / "hal0", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in BREACHES.values():
        with (tmp_path / file).open("a") as module:
            module.write(f"\n{line}\n")
    done = lint(tmp_path)
    kept = [key for key, name in contracts().items() if f"\n{name} BROKEN" not in done.stdout]
    assert kept == [], done.stdout + done.stderr


def test_a_package_without_a_place_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "hal0", tmp_path / "hal0", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "hal0" / "stray.py").touch()
    done = lint(tmp_path)
    assert done.returncode != 0
    assert "stray" in done.stdout
