"""Which hal0 is meant: flag, context, environment, the local socket, the default port; and who said so."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hal0 import paths
from hal0.client import ClientError, Target

DEFAULT_URL: Final = "http://127.0.0.1:8080"


def discover(
    url: str | None = None,
    context: str | None = None,
    *,
    api_key_file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Target:
    """The first of: `url`, a context named outright, HAL0_URL, the context in use, the local socket, the default port.

    The key comes from `api_key_file`, HAL0_API_KEY, or the context's key file. Raises ClientError for an unknown
    context, an address that is none, or a key file that cannot be read.
    """
    env = os.environ if environ is None else environ
    local = paths.resolve(env)
    known = Contexts.load(local)
    key_file, origin, found = api_key_file, "--url", url
    if not found and (context or not env.get("HAL0_URL")) and (name := context or known.current):
        entry = known.get(name)
        found, origin, key_file = entry["url"], f"context {name}", api_key_file or entry.get("api_key_file")
    if not found and (found := env.get("HAL0_URL")):
        origin = "HAL0_URL"
    if not found:
        found, origin = _local_default(local)
    if not found.startswith(("unix:///", "http://", "https://")):
        raise ClientError(
            "client.bad_url", f"cannot use {found!r} ({origin}) as an address: unix:///, http:// or https://"
        )
    key = _read_key(key_file) if key_file else env.get("HAL0_API_KEY")
    return Target(found.rstrip("/"), origin, key or None)


def _local_default(local: paths.Paths) -> tuple[str, str]:
    try:
        instance = local.instance_file.read_text().strip()
    except OSError:
        instance = ""  # never started here, or another user's
    path = paths.socket_path(local.run_dir, "hal0.sock", instance=instance)
    if path.exists():
        return f"unix://{path}", "default"
    return DEFAULT_URL, f"default, as there is no socket {path}"


def _read_key(file: str) -> str:
    try:
        return Path(file).expanduser().read_text().strip()
    except OSError as e:
        raise ClientError("client.key_file", f"cannot read the key file {file}: {e.strerror}") from e


@dataclass(slots=True)
class Contexts:
    """Named targets, `contexts.json` beside the configuration: {current, contexts: {name: {url, api_key_file}}}."""

    file: Path
    current: str | None = None
    entries: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, local: paths.Paths) -> "Contexts":
        file = local.config_dir / "contexts.json"
        try:
            data = json.loads(file.read_bytes())
            return cls(file, data.get("current"), dict(data.get("contexts", {})))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return cls(file)
        except (ValueError, AttributeError) as e:
            raise ClientError("client.contexts", f"cannot read {file}: {e}", hint=f"repair or remove {file}") from e

    def get(self, name: str) -> dict[str, str]:
        if name not in self.entries:
            raise ClientError("client.no_context", f"cannot find a context {name!r} in {self.file}")
        return self.entries[name]
