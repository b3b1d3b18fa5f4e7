"""What to tell somebody who has no real model yet, true with and without the internet."""

import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROBE_S: Final = 1.0
HUB: Final = ("huggingface.co", 443)


@dataclass(frozen=True, slots=True)
class Model:
    """A chat model of one file, published by its maker under Apache-2.0."""

    name: str
    quantisation: str
    size_bytes: int

    @property
    def file(self) -> str:
        return f"{self.name}-{self.quantisation}.gguf"

    @property
    def id(self) -> str:
        """What hal0 calls the file."""
        return self.file.removesuffix(".gguf").lower()

    @property
    def url(self) -> str:
        return f"https://{HUB[0]}/Qwen/{self.name}-GGUF/resolve/main/{self.file}"


# Smallest first.
MODELS: Final = (
    Model("Qwen3-0.6B", "Q8_0", 639_446_688),
    Model("Qwen3-1.7B", "Q8_0", 1_834_426_016),
    Model("Qwen3-4B", "Q4_K_M", 2_497_280_256),
    Model("Qwen3-8B", "Q4_K_M", 5_027_783_488),
    Model("Qwen3-14B", "Q4_K_M", 9_001_752_960),
    Model("Qwen3-30B-A3B", "Q4_K_M", 18_556_686_912),
)


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


def advice(models_dir: Path, command: str, *, internet: bool, memory_bytes: int) -> list[str]:
    """Lines for the welcome text: the one command that brings a model which this machine can run."""
    sudo = "sudo " if command.startswith("sudo ") else ""  # then the folder is root's as well
    if not internet:
        return [
            "A real model      this machine has no internet: bring a GGUF file on a disk or over the network, then",
            f"                  {sudo}cp FILE.gguf {models_dir}/ && {command} slot swap primary FILE",
        ]
    model = recommended(memory_bytes)
    return [
        f"A real model      {model.name}, {model.size_bytes / 1e9:.1f} GB, from {HUB[0]}:",
        f"  {sudo}curl -fL -C - -o {models_dir}/{model.file} {model.url} \\",
        f"    && {command} slot swap primary {model.id}",
    ]


def recommended(memory_bytes: int) -> Model:
    """The largest one that leaves two thirds of the memory to its context, the other slots and everybody else."""
    fitting = [model for model in MODELS if model.size_bytes * 3 <= memory_bytes]
    return fitting[-1] if fitting else MODELS[0]
