"""A podman service on the tests' own store, for one test run."""

import http.client
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.podman.store import Store

_READY_S: Final = 20.0


@dataclass(frozen=True)
class Podman:
    """A running service of the tests' store. `environ` makes any podman command or service use the same store."""

    socket: Path
    store: Store

    @property
    def environ(self) -> Mapping[str, str]:
        return self.store.environ

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
        return self.id_of(self.store.built(key))

    def id_of(self, tag: str) -> str:
        found: list[dict[str, str]] = self.call("GET", f'/images/json?filters={{"reference":["{tag}"]}}')
        return found[0]["Id"]

    def remove(self, container: str) -> None:
        self.call("DELETE", f"/containers/{container}?force=true&timeout=0&v=true&ignore=true")


@contextmanager
def running_podman() -> Iterator[Podman]:
    """The store, filled, and a service on it that ends with this context."""
    store = Store.filled()
    with tempfile.TemporaryDirectory(prefix="h0-") as short:
        path = Path(short) / "p.sock"
        process = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{path}"],
            env=store.environ,
            cwd=store.root,  # podman's monitor leaves a file named `oom` where the service was started
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            podman = Podman(path, store)
            _until_ready(podman, process)
            yield podman
        finally:
            process.terminate()
            process.wait(30)


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
