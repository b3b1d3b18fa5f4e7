"""`hal0ctl image`: the runtime images that slots start from."""

from typing import Final

import click

from hal0.cli import follow
from hal0.cli.exits import Exit
from hal0.cli.names_of import ImageKey
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import part


def _ways(image: Row) -> str:
    ways = [word for word, there in (("pull", image["pullable"]), ("build", image["buildable"])) if there]
    return ", ".join(ways) or "-"


def _columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("KEY", lambda image: image["key"]),
        Column("HERE", lambda image: "yes" if image["local_id"] else "no"),
        Column("SOURCE", lambda image: image["source"]),
        Column("SIZE", lambda image: session.size(image["size_bytes"]), right=True),
        Column("GET BY", _ways),
        Column("DEVICES", lambda image: ",".join(image["devices"]) or "-"),
        Column("ID", lambda image: (image["local_id"] or "-").removeprefix("sha256:")[:12], wide=True),
        Column("REF", lambda image: image["ref"], wide=True),
        Column("NOTE", lambda image: image["note"] or ""),
    )


_FORCE: Final = click.option("--force", is_flag=True, help="Even if the image is already here.")


@noun(short_help="Runtime images: list, build, pull, verify, prune.")
def image() -> None:
    """Runtime images: what the slots' containers start from."""


@subcommand(image, "hal0ctl image list", name="list")
def list_(session: Session) -> None:
    """Every image hal0 knows, here or not."""
    session.rows(session.client().get("/api/images")["items"], _columns(session), name="key")


@subcommand(image, "hal0ctl image build cpu moonshine")
@click.argument("keys", metavar="[KEY]...", type=ImageKey(), nargs=-1)
@_FORCE
@follow.no_wait()
def build(session: Session, *, keys: tuple[str, ...], force: bool, no_wait: bool) -> Exit:
    """Build images on this machine; without a KEY all that can be built, but the large ones."""
    if not keys:
        images = session.client().get("/api/images")["items"]
        keys = tuple(image["key"] for image in images if image["buildable"] and not image["on_request"])
    for key in keys:
        fetch(session, key, "build", force=force, wait=not no_wait)
    return Exit.DONE


@subcommand(image, "hal0ctl image pull vulkan")
@click.argument("key", type=ImageKey())
@_FORCE
@follow.no_wait()
def pull(session: Session, *, key: str, force: bool, no_wait: bool) -> Exit:
    """Pull an image by its digest."""
    return fetch(session, key, "pull", force=force, wait=not no_wait)


@subcommand(image, "hal0ctl image verify cpu")
@click.argument("key", type=ImageKey())
def verify(session: Session, *, key: str) -> None:
    """Check that the image here is the one that was recorded."""
    view = session.client(timeout_s=session.timeout or 120.0).post(f"/api/images/{part(key)}/verify")
    session.value(view, f"{key}: {view['source']}, {view['local_id'] or 'not here'}", name=key)


@subcommand(image, "hal0ctl image prune -y")
def prune(session: Session) -> None:
    """Remove images that were built anew or replaced since."""
    session.confirm("Remove the images that nothing starts from any more?")
    view = session.client(timeout_s=session.timeout or 120.0).post("/api/images/prune")
    for kept in view["kept"]:
        session.note(kept["reason"])
    sizes = [image["size_bytes"] for image in view["removed"]]
    session.value(view, f"{len(sizes)} image{'s' * (len(sizes) != 1)} removed, {session.size(sum(sizes))}")


def fetch(session: Session, key: str, verb: str, *, force: bool = False, wait: bool = True) -> Exit:
    """Build or pull `key`, with progress."""
    path = f"/api/images/{part(key)}/{verb}"
    body = {"force": force}
    return follow.start(
        session, session.client(), path, body, wait=wait, done=lambda job: f"image {job['target']} is here"
    )
