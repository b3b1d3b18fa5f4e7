"""The tests' own podman: store, locks, network and service apart from everything else on the machine.

It lives in a cache directory named after what the llama.cpp image is made of, so that it is built once per change of
that. The other images are built into it when a test first asks for one. Several test runs may use it at the same time.
"""

import fcntl
import hashlib
import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hal0.engine.manifest import Recipe, images_root, read_manifest, stage_settings

IMAGES: Final = images_root()
CPU_IMAGE: Final = "localhost/hal0-toolbox-cpu:latest"
SHELL_IMAGE: Final = "localhost/hal0-test-shell:latest"  # argv is handed to `sh -c`
CPU: Final = Recipe("llama/Containerfile", "cpu")
_BUILD_S: Final = 600.0
_READY_S: Final = 20.0


@dataclass(frozen=True)
class Podman:
    """A running service of the tests' store. `environ` makes any podman command or service use the same store."""

    socket: Path
    environ: Mapping[str, str]
    root: Path

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One libpod call, for looking at things and clearing up; raises AssertionError for a refusal."""
        connection = _UnixConnection(self.socket)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/v4.0.0/libpod{path}", data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status < 400, f"{method} {path}: {answer.status} {text.decode(errors='replace')}"
        return json.loads(text) if text else None

    def containers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", "/containers/json?all=true")
        return found

    def built(self, key: str) -> str:
        """Id of the image that the manifest's `key` gives now, built if it is not here yet, for a slot's `image`."""
        recipe = read_manifest(IMAGES)[key].recipe
        assert recipe is not None
        tag = f"localhost/hal0-test-{key}:{_digest(recipe)}"
        with _alone(self.root, key):
            if _podman(self.environ, "image", "exists", tag, check=False) != 0:
                with tempfile.TemporaryDirectory(dir=self.root) as folder:
                    _build(self.environ, recipe, Path(folder) / "rootfs.tar", tag)
        return self.id_of(tag)

    def id_of(self, tag: str) -> str:
        found: list[dict[str, str]] = self.call("GET", f'/images/json?filters={{"reference":["{tag}"]}}')
        return found[0]["Id"]

    def remove(self, container: str) -> None:
        self.call("DELETE", f"/containers/{container}?force=true&timeout=0&v=true&ignore=true")


@contextmanager
def running_podman() -> Iterator[Podman]:
    """The store, filled, and a service on it that ends with this context."""
    root = _cache_directory()
    root.mkdir(parents=True, exist_ok=True)
    environ = _environ(root)
    with tempfile.TemporaryDirectory(prefix="h0-") as short:
        with _alone(root, "store"):
            _write_configuration(root)
            _fill(root, environ)
        path = Path(short) / "p.sock"
        process = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{path}"],
            env=environ,
            cwd=root,  # podman's monitor leaves a file named `oom` where the service was started
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            podman = Podman(path, environ, root)
            _until_ready(podman, process)
            yield podman
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def _alone(root: Path, what: str) -> Iterator[None]:
    """One run makes it, the others wait for it."""
    with (root / f"{what}.lock").open("w") as lock:
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


def _fill(root: Path, environ: Mapping[str, str]) -> None:
    """Build and import what is missing."""
    if all(_podman(environ, "image", "exists", image, check=False) == 0 for image in (CPU_IMAGE, SHELL_IMAGE)):
        return
    tar = root / "rootfs.tar"
    try:
        _build(environ, CPU, tar, CPU_IMAGE)
        shell = root / "shell.tar"
        _write_shell(tar, shell)
        _import(environ, shell, SHELL_IMAGE, ['ENTRYPOINT ["/bin/sh", "-c"]'])
        shell.unlink()
    finally:
        tar.unlink(missing_ok=True)


def _build(environ: Mapping[str, str], recipe: Recipe, tar: Path, tag: str) -> None:
    containerfile = IMAGES / recipe.containerfile
    argv = (IMAGES / "rootfs.sh", tar, containerfile.parent, recipe.target)
    subprocess.run(argv, check=True, timeout=_BUILD_S, stdout=subprocess.DEVNULL)
    _import(environ, tar, tag, stage_settings(containerfile.read_text(), recipe.target))


def _import(environ: Mapping[str, str], tar: Path, tag: str, changes: Sequence[str]) -> None:
    _podman(environ, "import", "-q", *(word for change in changes for word in ("--change", change)), str(tar), tag)


def _podman(environ: Mapping[str, str], *words: str, check: bool = True) -> int:
    done = subprocess.run(
        ["podman", *words], env=environ, capture_output=True, text=True, timeout=_BUILD_S, check=False
    )
    assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
    return done.returncode


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


def _until_ready(podman: Podman, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            podman.containers()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("the tests' podman service does not start; see its messages above")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("podman", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
