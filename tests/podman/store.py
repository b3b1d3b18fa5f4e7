"""The tests' own podman store: images, locks and network apart from everything else on the machine.

It lives in a cache directory named after what the llama.cpp image is made of, so that it is built once per change of
that. The other images are built into it when a test first asks for one. Several test runs may use it at the same time.
"""

import fcntl
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hal0.engine.manifest import Recipe, images_root, read_manifest, stage_settings

IMAGES: Final = images_root()
CPU_IMAGE: Final = "localhost/hal0-toolbox-cpu:latest"
SHELL_IMAGE: Final = "localhost/hal0-test-shell:latest"  # argv is handed to `sh -c`
CPU: Final = Recipe("llama/Containerfile", "cpu")
_BUILD_S: Final = 600.0


@dataclass(frozen=True)
class Store:
    """`environ` makes any podman command or service use it. What its methods make takes minutes; they block."""

    root: Path
    environ: Mapping[str, str]

    @classmethod
    def filled(cls) -> Self:
        """With the images that nearly every test needs."""
        root = _cache_directory()
        root.mkdir(parents=True, exist_ok=True)
        store = cls(root, _environ(root))
        with store._alone("store"):
            _write_configuration(root)
            if not (store._has(CPU_IMAGE) and store._has(SHELL_IMAGE)):
                store._fill()
        return store

    def built(self, key: str) -> str:
        """The tag of what the manifest's `key` gives now."""
        recipe = read_manifest(IMAGES)[key].recipe
        assert recipe is not None
        return self.made(f"localhost/hal0-test-{key}:{_digest(recipe)}", lambda tar, tag: self._build(recipe, tar, tag))

    def made(self, tag: str, make: Callable[[Path, str], None]) -> str:
        """The tag, once it is here. `make` may write the tar whose path it gets, and imports it under the tag."""
        with self._alone(tag.rpartition("/")[2]):
            if not self._has(tag):
                with tempfile.TemporaryDirectory(dir=self.root) as folder:
                    make(Path(folder) / "rootfs.tar", tag)
        return tag

    def take(self, tar: Path, tag: str, changes: Sequence[str] = ()) -> None:
        self._podman("import", "-q", *(word for change in changes for word in ("--change", change)), str(tar), tag)

    def _fill(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            tar, shell = Path(folder) / "rootfs.tar", Path(folder) / "shell.tar"
            self._build(CPU, tar, CPU_IMAGE)
            _write_shell(tar, shell)
            self.take(shell, SHELL_IMAGE, ['ENTRYPOINT ["/bin/sh", "-c"]'])

    def _build(self, recipe: Recipe, tar: Path, tag: str) -> None:
        containerfile = IMAGES / recipe.containerfile
        argv = (IMAGES / "rootfs.sh", tar, containerfile.parent, recipe.target)
        subprocess.run(argv, check=True, timeout=_BUILD_S, stdout=subprocess.DEVNULL)
        self.take(tar, tag, stage_settings(containerfile.read_text(), recipe.target))

    def _has(self, tag: str) -> bool:
        return self._podman("image", "exists", tag, check=False) == 0

    def _podman(self, *words: str, check: bool = True) -> int:
        done = subprocess.run(
            ["podman", *words], env=self.environ, capture_output=True, text=True, timeout=_BUILD_S, check=False
        )
        assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.returncode

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """One run makes it, the others wait for it."""
        with (self.root / f"{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _cache_directory() -> Path:
    base = os.environ.get("HAL0_TEST_CACHE") or Path.home() / ".cache" / "hal0-tests"
    return Path(base) / _digest(CPU, Path(__file__))


def _digest(recipe: Recipe, *more: Path) -> str:
    """Of everything that the recipe reads: the script, its own folder, and what it copies into the image."""
    folder = (IMAGES / recipe.containerfile).parent
    lines = [line.split() for line in (folder / "packages").read_text().splitlines()]
    copied = [IMAGES / words[1] for words in lines if words[:1] == ["copy"]]
    parts = [*more, IMAGES / "rootfs.sh", folder, *copied]
    files = {file for part in parts for file in (part.rglob("*") if part.is_dir() else (part,)) if file.is_file()}
    digest = hashlib.sha256(recipe.target.encode())
    for file in sorted(file for file in files if file.suffix != ".pyc"):
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _environ(root: Path) -> dict[str, str]:
    own = {"CONTAINERS_CONF": str(root / "containers.conf"), "CONTAINERS_STORAGE_CONF": str(root / "storage.conf")}
    return {**{key: value for key, value in os.environ.items() if key != "CONTAINER_HOST"}, **own}


def _write_configuration(root: Path) -> None:
    """A network of its own, too: bridge, address range and id come from the directory's name."""
    from hal0.engine.host import containers_conf, read_facts

    number = int(root.name, 16)
    subnet = f"10.{200 + number % 50}.{number // 50 % 256}"
    network = hashlib.sha256(root.name.encode()).hexdigest()
    settings = (
        f'[engine]\nlock_type = "file"\ntmp_dir = "{root}/tmp"\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{root}/networks"\n'
        f'default_network = "hal0test"\ndefault_subnet = "{subnet}.0/24"\n'
    )
    conf = containers_conf(read_facts(os.environ, uid=os.getuid()), settings)
    (root / "networks").mkdir(exist_ok=True)
    _replace(root / "containers.conf", conf or settings)
    _replace(
        root / "storage.conf", f'[storage]\ndriver = "overlay"\ngraphroot = "{root}/graph"\nrunroot = "{root}/run"\n'
    )
    _replace(
        root / "networks" / "hal0test.json",
        json.dumps(
            {
                "name": "hal0test",
                "id": network,
                "driver": "bridge",
                "network_interface": f"h0t{root.name[:8]}",
                "created": "2026-01-01T00:00:00Z",
                "subnets": [{"subnet": f"{subnet}.0/24", "gateway": f"{subnet}.1"}],
                "ipv6_enabled": False,
                "internal": False,
                "dns_enabled": False,
                "ipam_options": {"driver": "host-local"},
            }
        ),
    )


def _replace(path: Path, text: str) -> None:
    """Only when it differs: another run may be reading it."""
    if not path.is_file() or path.read_text() != text:
        part = path.with_suffix(".part")
        part.write_text(text)
        part.replace(path)


def _write_shell(rootfs: Path, shell: Path) -> None:
    """The static busybox of the image and nothing else: for containers that only have to live and die."""
    with tarfile.open(rootfs) as source, tarfile.open(shell, "w") as out:
        program = source.extractfile("./usr/bin/busybox")
        assert program is not None
        content = program.read()
        for name in ("bin/busybox", "bin/sh"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            out.addfile(entry, io.BytesIO(content))
