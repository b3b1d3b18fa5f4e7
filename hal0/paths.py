"""Where hal0's files live, for root, for other users and below HAL0_HOME."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Linux refuses socket paths over 107 bytes; bind mounts and chroots may add a few.
MAX_SOCKET_PATH_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class Paths:
    config_dir: Path
    state_dir: Path
    models_dir: Path
    run_dir: Path

    @property
    def config_file(self) -> Path:
        return self.config_dir / "hal0.toml"

    @property
    def slots_config_dir(self) -> Path:
        return self.config_dir / "slots.d"

    @property
    def slots_dir(self) -> Path:
        return self.state_dir / "slots"

    @property
    def lock_file(self) -> Path:
        return self.state_dir / "lock"

    @property
    def instance_file(self) -> Path:
        return self.state_dir / "instance"

    @property
    def jobs_file(self) -> Path:
        return self.state_dir / "jobs.json"

    @property
    def keys_file(self) -> Path:
        return self.state_dir / "keys.json"

    @property
    def admin_key_file(self) -> Path:
        return self.state_dir / "admin.key"

    @property
    def registry_file(self) -> Path:
        return self.state_dir / "registry.toml"

    @property
    def history_file(self) -> Path:
        return self.state_dir / "history.sqlite"

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "spool"

    @property
    def containers_conf(self) -> Path:
        return self.run_dir / "containers.conf"

    def slot_dir(self, slot: str) -> Path:
        return self.slots_dir / slot


def resolve(environ: Mapping[str, str] | None = None, *, uid: int | None = None) -> Paths:
    """Paths for this user and environment: HAL0_HOME first, then root's, then the XDG ones."""
    env = os.environ if environ is None else environ
    if home := env.get("HAL0_HOME"):
        root = Path(home).absolute()
        return Paths(root / "etc", root / "var", root / "var" / "models", root / "run")
    if (os.getuid() if uid is None else uid) == 0:
        return Paths(Path("/etc/hal0"), Path("/var/lib/hal0"), Path("/var/lib/hal0/models"), Path("/run/hal0"))
    user = Path(env.get("HOME") or Path.home())
    config = Path(env.get("XDG_CONFIG_HOME") or user / ".config")
    state = Path(env.get("XDG_STATE_HOME") or user / ".local" / "state")
    data = Path(env.get("XDG_DATA_HOME") or user / ".local" / "share")
    run = Path(env["XDG_RUNTIME_DIR"]) / "hal0" if env.get("XDG_RUNTIME_DIR") else state / "hal0" / "run"
    return Paths(config / "hal0", state / "hal0", data / "hal0" / "models", run)


def socket_path(run_dir: Path, name: str, *, instance: str, tmp: Path = Path("/tmp")) -> Path:  # noqa: S108
    """Path of one of hal0's sockets; a path that Linux could not bind falls back to a short directory.

    The short directory is named after the instance; whoever creates it makes it 0700 and checks its owner.
    """
    path = run_dir / name
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    return tmp / f"hal0-{instance}" / name
