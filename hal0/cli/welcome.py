"""What `hal0ctl up` prints in the end: the address, a question to ask, who may do what, the next step."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hal0.cli.first_model import advice
from hal0.client import Json


def welcome(
    status: Json, slot: Json, *, models_dir: Path, command: str, internet: bool, choice: Json | None = None
) -> str:
    """`command` is how hal0ctl is called from here; every line works as it is printed.

    `choice` is the catalog's entry for who has no real model yet.
    """
    url = local_url(status["url"])
    model = slot["model"] or "no model yet"
    note = "the demonstration model: its answers are noise" if slot["demo"] else model
    lines = [
        "",
        f"hal0 answers at   {url}/v1   (OpenAI-compatible; {note})",
        "",
        f"  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
        '    -d \'{"model": "primary", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}\'',
        "",
        "Sign in           nothing to do here: programs on this machine may use /v1 without a key, and hal0ctl looks",
        f"                  after hal0 through {status['socket']}, as the user who runs it",
    ]
    if slot["demo"] or not slot["model"]:
        lines += ["", *advice(models_dir, command, internet=internet, choice=choice)]
    lines += ["", f"Look              {command} ps", f"Stop              {command} down --slots"]
    return "\n".join(lines)


def own_command(environ: Mapping[str, str] = os.environ, *, program: str = "", uid: int | None = None) -> str:
    """How to call hal0ctl from this shell and reach this hal0: by name where the shell finds it, else by its path."""
    called = Path(program or sys.argv[0])
    ours = called if called.name == "hal0ctl" else Path(sys.executable).with_name("hal0ctl")
    found = shutil.which("hal0ctl", path=environ.get("PATH"))
    word = "hal0ctl" if found and Path(found).resolve() == ours.resolve() else shlex.quote(str(ours))
    if home := environ.get("HAL0_HOME"):
        word = f"HAL0_HOME={shlex.quote(home)} {word}"
    as_root = (os.geteuid() if uid is None else uid) == 0
    return f"sudo {word}" if as_root and environ.get("SUDO_UID") else word


def local_url(url: str) -> str:
    """The address to use on this machine of a server that listens everywhere."""
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"{parts.scheme or 'http'}://{host}:{parts.port or 8080}"
