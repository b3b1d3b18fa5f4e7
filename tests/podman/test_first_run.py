"""A newcomer's first quarter of an hour: `hal0ctl up` from nothing, then the README's commands, as they are printed."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hal0.models.demo import DEMO_MODEL_ID, MARKER
from tests.podman.daemon import Daemon
from tests.podman.service import Podman
from tests.podman.streams import ATTEMPTS
from tests.readme import blocks
from tests.tiny import gguf_models

UP_S = 60.0
HOLDER = """
import socket, sys, time
held = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("held", flush=True)
time.sleep(99)
"""
AGAIN_S = 6.0  # the bar for a second `make run`, of which this is the larger part


class Newcomer:
    """A shell in a checkout-like folder: hal0ctl where the bootstrap puts it, an installation without anything."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        commands = folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        for name, module in (("hal0ctl", "hal0.cli.main"), ("hal0", "hal0.__main__")):
            (commands / name).write_text(
                f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
            )
            (commands / name).chmod(0o755)

    def types(self, text: str, *, timeout_s: float = UP_S) -> "subprocess.CompletedProcess[str]":
        """Commands as printed, but for the port and the folder that are this test's own."""
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.daemon.port}")
        text = text.replace("/var/lib/hal0/models", str(self.daemon.models))
        return subprocess.run(
            ["sh", "-euc", text],
            cwd=self.folder,
            env=self.daemon.variables(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture
def newcomer(podman: Podman, home: Path, port_block: range, cpu_image: str, tmp_path: Path) -> Iterator[Newcomer]:
    assert cpu_image
    daemon = Daemon(home, port_block[-1], port_block[:-1], podman, environ={"HTTPS_PROXY": ""})
    folder = tmp_path / "checkout"
    folder.mkdir()
    user = Newcomer(daemon, folder)
    try:
        yield user
    finally:
        user.types(".venv/bin/hal0ctl down --slots")
        daemon.end()


def _contents(stream: str) -> str:
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events)


def test_up_from_nothing_prints_a_question_that_works(newcomer: Newcomer) -> None:
    up = newcomer.types(".venv/bin/hal0ctl up")
    assert up.returncode == 0, up.stderr
    assert "wrote hal0-demo-f16" in up.stderr
    printed = re.search(r"^  (curl .*\\\n.*)$", up.stdout, re.MULTILINE)
    assert printed, up.stdout
    asked = newcomer.types(printed[1])
    assert asked.returncode == 0, asked.stderr
    assert _contents(asked.stdout).startswith("".join(MARKER).strip())
    assert '"system_fingerprint":"hal0-demo ' in asked.stdout
    assert asked.stdout.rstrip().endswith("data: [DONE]")
    whole = newcomer.types(printed[1].replace('"stream": true', '"stream": false'))
    assert json.loads(whole.stdout)["system_fingerprint"].startswith("hal0-demo ")
    stop = re.search(r"^Stop +(.*)$", up.stdout, re.MULTILINE)
    assert stop
    taken: list[float] = []
    while not taken or taken[-1] >= AGAIN_S:
        assert len(taken) < ATTEMPTS, taken
        began = time.monotonic()
        again = newcomer.types(".venv/bin/hal0ctl up")
        taken.append(time.monotonic() - began)
        assert "already running" in again.stderr
        assert again.stdout == up.stdout
    down = newcomer.types(stop[1])
    assert "hal0 has stopped" in down.stderr, down.stderr
    assert newcomer.daemon.containers() == []


def test_two_ups_at_once_end_well_with_one_hal0(newcomer: Newcomer) -> None:
    ended: list[Any] = []
    users = [threading.Thread(target=lambda: ended.append(newcomer.types(".venv/bin/hal0ctl up"))) for _ in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join(UP_S)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert ended[0].stdout == ended[1].stdout
    assert len(newcomer.daemon.containers()) == 1


def test_a_taken_port_is_named_with_its_holder(newcomer: Newcomer) -> None:
    port = newcomer.daemon.port
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(port)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        up = newcomer.types(".venv/bin/hal0ctl up")
    finally:
        holder.kill()
        holder.communicate()
    assert up.returncode == 1
    assert f"port {port} is taken by python" in up.stderr
    assert f"(pid {holder.pid})" in up.stderr
    assert "HAL0_SERVER__PORT=PORT" in up.stderr


def test_every_block_of_the_readme_does_what_it_says(newcomer: Newcomer) -> None:
    gguf_models.write_chat(newcomer.folder / "my-model.gguf")
    gguf_models.write_embed(newcomer.folder / "my-embedder.gguf")
    commands, ask, look, models, embed, keys, _elsewhere, stop, install = blocks("sh")
    assert [line.split("#")[0].split() for line in commands.splitlines()] == [["make", "run"], ["make", "test"]]
    assert install.splitlines() == ["pip install .", "hal0 serve"]  # see test_package
    assert newcomer.types(".venv/bin/hal0ctl up").returncode == 0
    said = _run(newcomer, ask)
    assert _contents(said).startswith("This is hal0's demo model")
    assert '"demo":true' in said
    assert f"primary  ready  {DEMO_MODEL_ID} (demo)" in _run(newcomer, look)
    (python,) = blocks("python")
    program = newcomer.folder / "ask.py"
    program.write_text(python.replace("127.0.0.1:8080", f"127.0.0.1:{newcomer.daemon.port}"))
    assert _run(newcomer, f"{sys.executable} ask.py").startswith("This is hal0's demo model")
    path = 'export PATH="$PWD/.venv/bin:$PATH"\n'
    said = _run(newcomer, path + models)
    assert len(said.split()) > 10
    assert '"embedding":[' in _run(newcomer, path + embed)
    said = _run(newcomer, path + keys)
    assert "hal0_" in said
    assert "/sign-in/" in said
    said = _run(newcomer, path + stop)
    assert "podman 4" in said or "podman 5" in said
    assert newcomer.daemon.containers() == []


def _run(newcomer: Newcomer, text: str) -> str:
    done = newcomer.types(text)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
