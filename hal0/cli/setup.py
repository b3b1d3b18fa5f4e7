"""`hal0ctl setup`: this machine's models, proposed, fetched and loaded."""

from typing import Final

import click

from hal0.cli import follow
from hal0.cli.exits import Exit
from hal0.cli.options import command
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import Json

_LOOK_S: Final = 30.0  # podman is asked about every image


def _columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("SLOT", lambda it: it["slot"]),
        Column("MODEL", lambda it: it["model"] or "-"),
        Column("DOWNLOAD", lambda it: _download(session, it), right=True),
        Column("MEMORY", lambda it: session.size(it["memory_bytes"]) if it["model"] else "-", right=True),
        Column("ON", lambda it: it["device"] or "-"),
        Column("LICENCE", lambda it: it["license"] or "-"),
        Column("WHAT FOR", lambda it: it["purpose"] or it["why"]),
    )


@command("hal0ctl setup --yes")
@click.option("--slot", "slots", metavar="NAME=MODEL", multiple=True, help="Another model for a slot; may be repeated.")
@click.option("--skip", metavar="NAME", multiple=True, help="Not this slot; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show the proposal, and do nothing.")
@follow.no_wait()
def setup(session: Session, *, slots: tuple[str, ...], skip: tuple[str, ...], dry_run: bool, no_wait: bool) -> Exit:
    """Look at this machine, propose a model for each slot, then fetch and load them.

    What a slot has stays as it is. Cut short, it goes on the next time.
    """
    named = [_pair(word) for word in slots]
    client = session.client(timeout_s=session.timeout or _LOOK_S)
    view = client.get("/api/setup")
    if unknown := set(skip) - {it["slot"] for it in view["items"]}:
        raise click.UsageError(f"--skip {min(unknown)!r}: there are {', '.join(it['slot'] for it in view['items'])}")
    if dry_run and session.machine:
        session.value(view, "")
        return Exit.DONE
    if not session.machine:
        session.rows(view["items"], _columns(session), name="slot")
        session.note(_sums(session, view))
    models = {it["slot"]: it["model"] for it in view["items"] if it["model"] and not it["done"]} | dict(named)
    models = {slot: model for slot, model in models.items() if slot not in skip}
    if dry_run:
        return Exit.DONE
    if not models:
        session.note("Everything is set up.")
        return Exit.DONE
    session.confirm(f"Set up {', '.join(models)}?")
    return follow.start(session, client, "/api/setup", {"slots": models}, wait=not no_wait, done=_done)


def _pair(word: str) -> tuple[str, str]:
    slot, _, model = word.partition("=")
    if not slot or not model:
        raise click.UsageError(f"--slot {word!r}: write NAME=MODEL")
    return slot, model


def _done(job: Json) -> str:
    return f"{job['target']} is set up. Try it: hal0ctl chat"


def _sums(session: Session, view: Json) -> str:
    disk = "" if view["disk_free_bytes"] is None else f" of {session.size(view['disk_free_bytes'])} free"
    return (
        f"{view['machine']}: {session.size(view['download_bytes'])} to download{disk}, "
        f"{session.size(view['needed_bytes'])} of {session.size(view['memory_bytes'])} "
        f"{'on the GPU' if view['on_gpu'] else 'of memory'} once they are loaded"
    )


def _download(session: Session, it: Row) -> str:
    if not it["model"]:
        return "-"
    return "done" if it["done"] else "here" if it["installed"] else session.size(it["size_bytes"])
