"""The backend as a container image: this machine's own Python, the libraries it needs, and one file."""

import hashlib
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

BACKEND: Final = Path(__file__).with_name("backend.py")
ENTRY: Final = "/backend.py"
# Parts of the standard library that a server has no use for, and what pip put beside it.
LEFT_OUT: Final = {"test", "tests", "idlelib", "ensurepip", "lib2to3", "tkinter", "turtledemo", "site-packages",
                   "dist-packages", "__pycache__", "pydoc_data"}  # fmt: skip


@contextmanager
def backend_image() -> Iterator[str]:
    """Import the image into podman's store; gone again at the end. Takes about two seconds."""
    tag = "localhost/hal0-bench:" + hashlib.sha256(BACKEND.read_bytes()).hexdigest()[:12]
    python = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    entry = f'ENTRYPOINT ["{python}", "-I", "-B", "{ENTRY}"]'
    with tempfile.NamedTemporaryFile(suffix=".tar") as tar:
        _write_root(Path(tar.name), python)
        _podman("import", "-q", "--change", entry, tar.name, tag)
    try:
        yield tag
    finally:
        _podman("rmi", "-f", tag)


def _write_root(target: Path, python: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    with tarfile.open(target, "w") as tar:
        for directory in ("proc", "sys", "dev", "run", "tmp", "models", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(stdlib, str(stdlib).lstrip("/"), filter=_needed)
        tar.add(BACKEND, ENTRY.lstrip("/"))
        extensions = list((stdlib / "lib-dynload").glob("*.so"))
        uvloop = find_spec("uvloop")
        if uvloop and uvloop.origin:
            package = Path(uvloop.origin).parent
            # -I leaves no path of our own: what stands in the standard library's directory is found.
            tar.add(package, f"{str(stdlib).lstrip('/')}/uvloop", filter=_needed)
            extensions += package.glob("*.so")
        for file in sorted({python, *_libraries([python, *extensions])}):
            tar.add(file.resolve(), str(file).lstrip("/"))


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(entry.name).parts
    built_from = any(part.startswith("config-") for part in parts)  # the static library, tens of megabytes
    return None if built_from or LEFT_OUT & set(parts) else entry


def _libraries(programs: list[Path]) -> set[Path]:
    """Shared libraries of these files, the dynamic loader included, by the path they are looked for at."""
    done = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False, timeout=30)
    return {Path(path) for path in re.findall(r"(?:=> |\t)(/\S+) \(0x", done.stdout)}


def _podman(*arguments: str) -> None:
    subprocess.run(["podman", *arguments], check=True, timeout=120, stdout=subprocess.DEVNULL)
