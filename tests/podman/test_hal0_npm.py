"""The unmodified OpenAI client for JavaScript against the real daemon and the real engine."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.podman.daemon import Daemon

SOURCES = Path(__file__).parents[1] / "npm"


@pytest.fixture(scope="session")
def openai_npm() -> Path:
    """The locked client, installed once per lock into the tests' cache."""
    lock = (SOURCES / "package-lock.json").read_bytes()
    base = Path(os.environ.get("HAL0_TEST_CACHE") or Path.home() / ".cache" / "hal0-tests")
    folder = base / f"npm-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "node_modules" / "openai").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=180)
    shutil.copy(SOURCES / "client.mjs", folder)
    return folder


async def test_the_npm_client_streams_and_embeds(daemon: Daemon, openai_npm: Path) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        await operator.verb("embed", "swap", {"model": "tiny-embed"})
    process = await asyncio.create_subprocess_exec(
        "node", "client.mjs", f"{daemon.url}/v1", cwd=openai_npm, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    seen = json.loads(out)
    assert seen["chunks"] > 10
    assert len(seen["text"].split()) > 3
    assert {"tiny-chat", "tiny-embed"} <= set(seen["models"])
    assert seen["refusal"]["status"] == 400
    # Without encoding_format the client asks for base64 and decodes it: floats for an answer would be garbage here.
    for packed, plain in zip(seen["packed"], seen["plain"], strict=True):
        assert len(packed) == len(plain) > 8
        assert max(abs(a - b) for a, b in zip(packed, plain, strict=True)) < 1e-6
