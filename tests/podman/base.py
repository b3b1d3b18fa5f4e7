"""A Debian with apt and this host's mirror, as a base image that is pulled would have it."""

import hashlib
import io
import subprocess
import tarfile
from functools import partial
from pathlib import Path

from tests.podman.store import IMAGES, Store

# What a Debian base needs so that rootfs.sh runs in it. Unpacked, not installed: the links and files that the
# packages' own scripts would make are added below.
BASE_PACKAGES = """
suite forky
target base
all apt
all base-files
all bash
all coreutils
all dash
all debian-archive-keyring
all dpkg
all findutils
all grep
all mawk
all sed
all tar
all xz-utils
omit debconf
omit perl-base
"""


def made_base(store: Store) -> str:
    """Its tag in the store. Blocking."""
    files = {
        "etc/apt/sources.list": f"deb {_mirror()} forky main\n",
        # A mirror that stands still is known as such to its host.
        "etc/apt/apt.conf.d/80host": _told("apt-config", "dump", "Acquire::Check-Valid-Until"),
        "var/lib/dpkg/status": "",
    }
    made_of = [BASE_PACKAGES, (IMAGES / "rootfs.sh").read_text(), *files.values()]
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:12]
    return store.made(f"localhost/hal0-test-base:{digest}", partial(_make, store, files))


def _make(store: Store, files: dict[str, str], tar: Path, tag: str) -> None:
    recipe = tar.with_name("base")
    recipe.mkdir()
    (recipe / "packages").write_text(BASE_PACKAGES)
    subprocess.run([IMAGES / "rootfs.sh", tar, recipe, "base"], check=True, timeout=300, stdout=subprocess.DEVNULL)
    with tarfile.open(tar, "a") as out:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("./usr/bin/awk")
        link.type, link.linkname = tarfile.SYMTYPE, "mawk"
        out.addfile(link)
    store.take(tar, tag)


def _mirror() -> str:
    return _told(
        "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"
    ).split()[0]


def _told(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout
