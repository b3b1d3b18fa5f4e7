"""`hal0ctl up`, `down`, `serve`: from nothing to a slot that answers, and back."""

import os
from typing import Any, Final
from urllib.parse import urlsplit

import click

from hal0 import paths
from hal0.cli import daemon, first_model, follow
from hal0.cli.exits import Exit
from hal0.cli.image import fetch
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.cli.slots import LOADED, ROUTABLE
from hal0.client import ApiError, Client, Json, Unreachable

START_WAIT_S: Final = 30.0
PROBE_S: Final = 2.0  # a daemon on this machine answers its health in milliseconds

# What the demonstration route answers when models are installed, or when this hal0 has no such route.
_NO_DEMO_NEEDED: Final = frozenset({"model.exists", "request.not_found", "request.method"})


@command("hal0ctl up")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--no-load", is_flag=True, help="Only start the daemon.")
def up(session: Session, *, host: str | None, port: int | None, no_load: bool) -> Exit:
    """Start hal0 in the background and load its primary slot."""
    local = paths.resolve()
    _start(session, local, _listen(host, port))
    client = session.client()
    if not no_load:
        _load_primary(session, client)
    status = client.get("/api/status")
    slot = client.get("/api/slots/primary")
    session.value({"status": status, "primary": slot}, _welcome(local, status, slot))
    return Exit.DONE


def _listen(host: str | None, port: int | None) -> list[str]:
    return [*(["--host", host] if host else []), *(["--port", str(port)] if port else [])]


def _start(session: Session, local: paths.Paths, arguments: list[str]) -> None:
    if session.url or session.context or os.environ.get("HAL0_URL"):
        raise click.UsageError("up starts hal0 on this machine: leave out --url, --context and HAL0_URL")

    def answers() -> bool:
        try:
            session.client(timeout_s=PROBE_S).get("/api/status")
        except Unreachable:
            return False
        except ApiError as e:
            if e.status in (401, 403):  # not through our socket: another hal0 on the default port
                return False
            raise
        return True

    if answers():
        found = daemon.holder(local)
        session.note("hal0 is already running" + (f" (pid {found.pid})" if found else ""))
        return
    if found := daemon.holder(local):
        session.note(f"hal0 is starting already (pid {found.pid})")
    else:
        pid = daemon.start(local, arguments)
        daemon.wait_until(answers, pid, local, timeout_s=START_WAIT_S)
        session.note(f"hal0 runs in the background (pid {pid}), log: {daemon.log_file(local)}")


def _load_primary(session: Session, client: Client) -> None:
    slot = client.get("/api/slots/primary")
    if slot["state"] in ROUTABLE:
        return
    _get_image(session, client, slot)  # first, as a slot that gets its model may start at once
    try:
        made = client.post("/api/models/demo")
        session.note(f"no model is installed: wrote {made['id']}, a tiny demonstration model whose answers are noise")
    except ApiError as e:
        if e.code not in _NO_DEMO_NEEDED:
            raise
    follow.start(session, client, "/api/slots/primary/load", {}, wait=True, done=lambda _: "primary is ready")


def _get_image(session: Session, client: Client, slot: Json) -> None:
    """The image that the slot's device needs, when it is not here: pulled where that is possible, else built."""
    images = {image["key"]: image for image in client.get("/api/images")["items"]}
    image = images.get(slot["device"]) or images.get("cpu")
    if image is None or image["local_id"] or not (image["pullable"] or image["buildable"]):
        return
    verb = "pull" if image["pullable"] else "build"
    session.note(f"the {image['key']} image is not here: {verb} it first, this takes a minute or two")
    try:
        _fetch_quietly(session, image["key"], verb)
    except ApiError as e:
        if verb == "build" or not image["buildable"]:
            raise
        session.note(f"{e.message}; building it instead")
        _fetch_quietly(session, image["key"], "build")


def _fetch_quietly(session: Session, key: str, verb: str) -> None:
    """With progress, but nothing on stdout: the one answer of `up` goes there."""
    shown, session.output = session.output, "table"
    try:
        fetch(session, key, verb)
    finally:
        session.output = shown


def local_url(url: str) -> str:
    """The address to use on this machine of a server that listens everywhere."""
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"{parts.scheme or 'http'}://{host}:{parts.port or 8080}"


def _welcome(local: paths.Paths, status: Json, slot: Json) -> str:
    url = local_url(status["url"])
    demo = "  (the demonstration model: its answers are noise)" if slot["demo"] else ""
    lines = [
        "",
        f"hal0 answers at   {url}/v1   (OpenAI-compatible){demo}",
        "",
        f"  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
        '    -d \'{"model": "primary", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}\'',
        "",
        "Sign in           nothing to do here: programs on this machine may use /v1, and hal0ctl looks after hal0",
        f"                  through {status['socket']} (as the user who runs it)",
        *first_model.advice(
            local.models_dir, internet=first_model.internet(), demo=bool(slot["demo"] or not slot["model"])
        ),
        "",
        "Look              hal0ctl ps        hal0ctl chat        hal0ctl logs -f",
        "Stop              hal0ctl down --slots",
    ]
    return "\n".join(lines)


@command("hal0ctl down --slots")
@click.option("--slots", is_flag=True, help="Unload every slot first; without it their containers stay.")
def down(session: Session, *, slots: bool) -> Exit:
    """Stop the hal0 of this machine."""
    local = paths.resolve()
    found = daemon.holder(local)
    if found is None:
        session.note("hal0 is not running")
        return Exit.DONE
    if slots:
        _unload_all(session)
    if not daemon.stop(found, timeout_s=session.timeout or daemon.STOP_WAIT_S):
        raise follow.StillRunning(f"hal0 (pid {found.pid}) is still finishing open streams", "hal0ctl down")
    session.note(f"hal0 has stopped (pid {found.pid})" + ("" if slots else "; its slots' containers stay up"))
    return Exit.DONE


def _unload_all(session: Session) -> None:
    client = session.client()
    for slot in client.get("/api/slots")["items"]:
        if slot["state"] in LOADED:
            name = slot["name"]
            follow.finished(session, client, client.post(f"/api/slots/{name}/unload"))


@command("hal0ctl serve --port 8080", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", metavar="[DAEMON OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def serve(session: Session, *, arguments: tuple[Any, ...]) -> None:
    """Run the daemon in the foreground: --host, --port, --config."""
    del session
    program = daemon.PROGRAM
    os.execv(program[0], [*program, *arguments])  # noqa: S606  one program, no shell
