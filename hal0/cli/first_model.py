"""What to tell somebody who has no real model yet, true with and without the internet."""

import os
import shlex
import socket
import threading
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hal0.client import Json

PROBE_S: Final = 1.0


def internet(hub: str, *, timeout_s: float = PROBE_S) -> bool:
    """Whether models could be downloaded: a proxy is configured, or the hub takes a connection within `timeout_s`."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    reached = threading.Event()

    def connect() -> None:
        try:
            address = urlsplit(hub)
            port = address.port or (443 if address.scheme == "https" else 80)
            if address.hostname:  # nothing would be this machine itself
                socket.create_connection((address.hostname, port), timeout=timeout_s).close()
                reached.set()
        except (OSError, ValueError):  # ValueError: what was configured is no address
            return

    # A thread, because looking up a name has no deadline of its own.
    threading.Thread(target=connect, name="internet", daemon=True).start()
    return reached.wait(timeout_s)


def first_choice(catalog: Json) -> Json | None:
    """What the catalog recommends to talk to on this machine; None when nothing fits."""
    return next((it for it in catalog["items"] if "primary" in it["slots"]), None)


def advice(models_dir: Path, command: str, *, internet: bool, choice: Json | None) -> list[str]:
    """Lines for the welcome text: the one command that brings models which this machine can run."""
    if not internet or choice is None:
        why = "this machine has no internet" if not internet else "the catalog has none that fits this machine"
        sudo = "sudo " if command.startswith("sudo ") else ""  # then the folder is root's as well
        return [
            f"A real model      {why}: bring a GGUF file on a disk or over the network, then",
            f"                  {sudo}cp FILE.gguf {shlex.quote(str(models_dir))}/ && {command} slot swap primary FILE",
        ]
    return [
        f"Real models       {choice['name']} ({choice['size_bytes'] / 1e9:.1f} GB) to talk to, and more besides:",
        f"  {command} setup",
    ]
