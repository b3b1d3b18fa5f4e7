"""What to tell somebody who has no real model yet, true with and without the internet."""

import os
import socket
import threading
from pathlib import Path
from typing import Final

PROBE_S: Final = 1.0
HUB: Final = ("huggingface.co", 443)


def internet(host: str = HUB[0], port: int = HUB[1], *, timeout_s: float = PROBE_S) -> bool:
    """Whether models could be downloaded: a proxy is configured, or the hub takes a connection within `timeout_s`."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    reached = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=timeout_s).close()
            reached.set()
        except OSError:
            return

    # A thread, because looking up a name has no deadline of its own.
    threading.Thread(target=connect, name="internet", daemon=True).start()
    return reached.wait(timeout_s)


def advice(models_dir: Path, *, internet: bool, demo: bool) -> list[str]:
    """Lines for the welcome text; none when a real model is loaded."""
    if not demo:
        return []
    how = f"curl -L --output-dir {models_dir} -O URL-OF-A-GGUF-FILE && hal0ctl slot swap primary MODEL"
    if internet:
        return ["", f"A real model      {how}", "                  (MODEL: the file's name without .gguf)"]
    return [
        "",
        "A real model      this machine has no internet: bring a GGUF file on a disk or over the network, then",
        f"                  cp FILE.gguf {models_dir}/ && hal0ctl slot swap primary MODEL",
        "                  (MODEL: the file's name without .gguf)",
    ]
