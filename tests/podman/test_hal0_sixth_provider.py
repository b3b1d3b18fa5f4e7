"""A provider more is one new module and one line: shown on a copy of hal0 that gets both, and nothing else."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import openai
import pytest

from tests.podman.daemon import Daemon, installed
from tests.podman.service import Podman
from tests.tiny import gguf_models

ROOT: Final = Path(__file__).parents[2]
MODULE: Final = Path(__file__).with_name("engines") / "sixth.py"
BEFORE: Final = '    UPSTREAM = "upstream"\n'
LINE: Final = '    PARROT = "parrot"\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """hal0 with a sixth provider. Its bytecode comes along: the files keep their times."""
    shutil.copytree(ROOT / "hal0", tmp_path / "tree" / "hal0")
    for name in ("images", "web"):
        (tmp_path / "tree" / name).symlink_to(ROOT / name)
    names = tmp_path / "tree" / "hal0" / "vocab.py"
    assert names.read_text().count(BEFORE) == 1
    names.write_text(names.read_text().replace(BEFORE, BEFORE + LINE))
    shutil.copy(MODULE, tmp_path / "tree" / "hal0" / "providers" / "parrot.py")
    return tmp_path / "tree"


@pytest.fixture
def hal0(podman: Podman, home: Path, port_block: range, tree: Path) -> Iterator[Daemon]:
    own = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}  # the copy, not the folder that the tests run in
    with installed(Daemon(home, port_block[-1], port_block[:-1], podman, environ=own)) as daemon:
        gguf_models.write_chat(daemon.models / "tiny-chat.gguf")
        yield daemon


async def test_it_is_listed_made_into_a_slot_loaded_asked_and_ended(hal0: Daemon) -> None:
    await hal0.start()

    async def ctl(*words: str) -> str:
        done = await asyncio.to_thread(hal0.ctl, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "parrot" in await ctl("provider", "list")
    await ctl("slot", "create", "polly", "--provider", "parrot", "--model", "tiny-chat", "--load")
    shown = json.loads(await ctl("slot", "show", "polly", "-o", "json"))
    assert (shown["provider"], shown["device"], shown["state"]) == ("parrot", "cpu", "ready")
    async with openai.AsyncOpenAI(base_url=f"{hal0.url}/v1", api_key="none", max_retries=0) as client:
        said = await client.chat.completions.create(model="polly", messages=[{"role": "user", "content": "Hello"}])
        assert said.choices[0].message.content == "Polly wants a cracker."
        with pytest.raises(openai.ConflictError):
            await client.embeddings.create(model="polly", input="Hello")
    await ctl("slot", "restart", "polly")
    await ctl("slot", "delete", "polly", "-y")
    assert hal0.containers() == []
