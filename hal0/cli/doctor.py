"""`hal0ctl doctor`: what hal0 found wrong, or, while it is down, what can be seen without it."""

import os
import shutil
import sys
from typing import Final

import click

from hal0 import paths
from hal0.cli import daemon, units
from hal0.cli.exits import Exit
from hal0.cli.options import command
from hal0.cli.output import GAP, Json
from hal0.cli.session import Session
from hal0.client import ClientError, Unreachable

STATES: Final = ("ok", "warn", "fail", "skipped")
PAD_UP_TO: Final = 40  # a long message must not push every fix off the screen
_WORDS: Final = {"ok": "ok", "warn": "warning", "fail": "failure", "skipped": "skipped"}
OLDEST_PYTHON: Final = (3, 11)


@command("hal0ctl doctor -o json")
@click.option("--only", metavar="NAME", help="Only the check of this name.")
def doctor(session: Session, *, only: str | None) -> Exit:
    """Check hal0 and this machine; exit 9 when something fails."""
    checks = [c for c in _checks(session) if only in (None, c["name"])]
    if only and not checks:
        raise click.UsageError(f"no check {only!r}")
    if session.output in ("table", "wide"):
        session.say(_text(checks))
    else:
        session.rows(checks, ())
    return Exit.CHECK_FAILED if any(c["state"] == "fail" for c in checks) else Exit.DONE


def _checks(session: Session) -> list[Json]:
    try:
        health = session.client().get("/api/health")
    except Unreachable as e:
        daemon_down = _check("daemon", "fail", e.message, "hal0ctl up")
        return [daemon_down, *local_checks(paths.resolve()), _check("slots", "skipped", "the daemon is down")]
    except ClientError as e:
        return [_check("daemon", "fail", e.message, e.hint), _check("slots", "skipped", "the daemon did not say")]
    if "checks" not in health:  # without operator rights health says only that it is there
        hint = "run it on hal0's own machine, as the user that hal0 runs as, without --url"
        said = _check("daemon", "ok", f"{health['version']}, {health['status']}")
        return [said, _check("host", "skipped", "the daemon tells strangers nothing about its machine", hint)]
    up = _check("daemon", "ok", f"{health['version']}, up {units.duration(health['uptime_s'])}, pid {health['pid']}")
    return [up, *(c for c in health["checks"] if c["name"] != "daemon")]


def local_checks(local: paths.Paths) -> list[Json]:
    """What needs no daemon: python, podman, its sockets, hal0's directories."""
    return [_python(), _podman(), _writable("state", local.state_dir), _writable("run", local.run_dir), _lock(local)]


def _python() -> Json:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= OLDEST_PYTHON:
        return _check("python", "ok", version)
    return _check("python", "fail", f"{version} is too old", "install Python 3.11 or newer")


def _podman() -> Json:
    found = shutil.which("podman")
    if found is None:
        fix = "apt-get install podman (or dnf, pacman, zypper, apk)"
        return _check("podman", "fail", "podman is not installed", fix)
    places = [os.environ.get("CONTAINER_HOST", "").removeprefix("unix://"), "/run/podman/podman.sock"]
    places.append(f"{os.environ.get('XDG_RUNTIME_DIR', '')}/podman/podman.sock")
    there = [place for place in places if place and os.path.exists(place)]  # noqa: PTH110
    note = f"socket {there[0]}" if there else "no socket: hal0 starts podman's service itself"
    return _check("podman", "ok", f"{found}, {note}")


def _writable(name: str, directory: os.PathLike[str]) -> Json:
    nearest = os.path.abspath(directory)  # noqa: PTH100
    while not os.path.exists(nearest):  # noqa: PTH110
        nearest = os.path.dirname(nearest)  # noqa: PTH120
    if os.access(nearest, os.W_OK | os.X_OK):
        return _check(name, "ok", f"{directory} can be written")
    return _check(
        name, "fail", f"cannot write {nearest}", f"chown it, or set HAL0_HOME, or run as its owner ({directory})"
    )


def _lock(local: paths.Paths) -> Json:
    holder = daemon.holder(local)
    if holder is None:
        return _check("lock", "ok", "no hal0 holds the state directory")
    return _check("lock", "warn", f"pid {holder.pid} holds {local.lock_file} but does not answer", "hal0ctl down")


def _check(name: str, state: str, message: str, fix: str | None = None) -> Json:
    return {"name": name, "state": state, "message": message, "fix": fix}


def _text(checks: list[Json]) -> str:
    width = max((len(c["name"]) for c in checks), default=0)
    about = max((len(c["message"]) for c in checks if c["fix"]), default=0)
    lines = []
    for c in checks:
        fix = f"{GAP}fix: {c['fix']}" if c["fix"] else ""
        message = c["message"].ljust(min(about, PAD_UP_TO)) if fix else c["message"]
        lines.append(f"{c['state']:<7} {c['name']:<{width}}{GAP}{message}{fix}")
    counts = {state: sum(c["state"] == state for c in checks) for state in STATES}
    plural = {"warn", "fail"}
    words = [f"{n} {_WORDS[s]}{'s' * (n != 1 and s in plural)}" for s, n in counts.items() if n]
    return "\n".join([*lines, ", ".join(words)])
