"""`hal0ctl up`, `down`, `serve`: from nothing to a slot that answers, and back."""

import os
from typing import Any, Final

import click

from hal0 import paths
from hal0.cli import daemon, first_model, follow
from hal0.cli.exits import Exit
from hal0.cli.image import fetch
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.cli.slots import LOADED, ROUTABLE
from hal0.cli.welcome import own_command, welcome
from hal0.client import ApiError, Client, Json, Unreachable, part

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
    bare = session.machine or not (slot["demo"] or not slot["model"])  # nobody reads about a first model
    catalog = None if bare else _catalog(client)
    internet = catalog is not None and first_model.internet(catalog.get("hub") or "")
    choice = first_model.first_choice(catalog) if catalog is not None else None
    text = welcome(status, slot, models_dir=local.models_dir, command=own_command(), internet=internet, choice=choice)
    session.value({"status": status, "primary": slot}, text)
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
    if daemon.held(local):  # by a hal0 that starts at this moment
        daemon.wait_until(answers, None, local, timeout_s=START_WAIT_S)
        session.note("hal0 was being started already")
        return
    pid = daemon.start(local, arguments)
    # Its socket answers a little before it listens on TCP, which may still fail; it is named in the lock after that.
    daemon.wait_until(lambda: daemon.holder(local) is not None and answers(), pid, local, timeout_s=START_WAIT_S)
    found = daemon.holder(local)
    session.note(f"hal0 runs in the background (pid {found.pid if found else pid}), log: {daemon.log_file(local)}")


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
        if slot["model"] and (missing := _missing(client, slot["model"])) is not None:
            # Gigabytes are fetched when somebody says so, and not because hal0 is started.
            session.note(f"primary is not loaded: {missing}; hal0ctl slot load primary fetches it")
            return
    follow.start(session, client, "/api/slots/primary/load", {}, wait=True, done=lambda _: "primary is ready")


def _missing(client: Client, model: str) -> str | None:
    """Why a model is not on this machine; None when it is."""
    try:
        client.get(f"/api/models/{part(model)}")
    except ApiError as e:
        return e.message if e.code == "model.not_downloaded" else None
    return None


def _catalog(client: Client) -> Json | None:
    """Of a hal0 that still runs from before, it may lack, or its hub."""
    try:
        return client.get("/api/catalog")
    except ApiError:
        return None


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
            follow.finished(session, client, client.post(f"/api/slots/{part(name)}/unload"))


@command("hal0ctl serve --port 8080", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", metavar="[DAEMON OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def serve(session: Session, *, arguments: tuple[Any, ...]) -> None:
    """Run the daemon in the foreground: --host, --port."""
    del session
    program = daemon.PROGRAM
    os.execv(program[0], [*program, *arguments])  # noqa: S606  one program, no shell
