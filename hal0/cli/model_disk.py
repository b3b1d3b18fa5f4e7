"""`hal0ctl model` over what is on the disk: looked at again, read again, its room, and what may go."""

import time
from collections.abc import Sequence
from typing import Final

import click

from hal0.cli import follow, units
from hal0.cli.exits import Exit
from hal0.cli.key import Duration
from hal0.cli.model_fit import LOOK_S
from hal0.cli.names_of import ModelName
from hal0.cli.options import command
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import ApiError, Client, Json, part

_DAY_S: Final = 86_400.0


@command("hal0ctl model delete qwen3-4b-q4_k_m -y")
@click.argument("name", metavar="MODEL", type=ModelName())
def delete(session: Session, *, name: str) -> None:
    """Delete a model's files; refused while a slot has it loaded."""
    session.confirm(f"Delete the files of {name}?")
    view = session.client().delete(f"/api/models/{part(name)}")
    session.value(view, f"{view['id']} is deleted, {session.size(view['freed_bytes'])} are free", name=view["id"])


@command("hal0ctl model scan")
def scan(session: Session) -> None:
    """Look at the model folders again."""
    view = session.client(timeout_s=session.timeout or LOOK_S).post("/api/models/scan")
    session.value(view, f"{len(view['items'])} models, {len(view['problems'])} files that cannot be used")


@command("hal0ctl model verify qwen3-4b-q4_k_m")
@click.argument("names", metavar="[MODEL]...", nargs=-1, type=ModelName())
def verify(session: Session, *, names: tuple[str, ...]) -> Exit:
    """Read models again, all unless told: are their files what came, or what was published? Exit 9 if not."""
    client = session.client()
    ids = names or tuple(it["id"] for it in client.get("/api/models")["items"])
    found = [_verified(session, client, name) for name in ids]
    session.value(found, "\n".join(f"{'ok  ' if it['ok'] else 'fail'}  {it['id']}: {it['message']}" for it in found))
    return Exit.DONE if all(it["ok"] for it in found) else Exit.CHECK_FAILED


def _verified(session: Session, client: Client, name: str) -> Json:
    job = client.post(f"/api/models/{part(name)}/verify")
    try:
        ended = follow.finished(session, client, job)
    except ApiError as e:
        return {"id": job["target"], "ok": False, "code": e.code, "message": e.message}
    return {"id": ended["target"], "ok": True, "code": None, "message": ended["note"] or ""}


def _columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("MODEL", lambda it: it["id"]),
        Column("SIZE", lambda it: session.size(it["size_bytes"]), right=True),
        Column("USED", lambda it: units.ago(it["last_used"], time.time())),
        Column("KEPT BY", lambda it: ", ".join(it["kept_by"]) or ("-" if it["removable"] else "another program")),
        Column("CAME", lambda it: units.ago(it["came_at"], time.time()), wide=True),
    )


@command("hal0ctl model du")
def du(session: Session) -> None:
    """What models take on disk, when each was used last, and what would miss it."""
    view = session.client(timeout_s=session.timeout or LOOK_S).get("/api/disk")
    session.rows(view["items"], _columns(session), name="id")
    own = sum(it["size_bytes"] for it in view["items"] if it["removable"])
    session.note(f"{session.size(own)} of models in {view['store']}, {session.size(view['free_bytes'])} are free there")
    if view["pulls_bytes"]:
        session.note(f"{session.size(view['pulls_bytes'])} of downloads that have not ended: hal0ctl model pulls")


@command("hal0ctl model prune --unused-for 30d --dry-run")
@click.option("--unused-for", type=Duration(), default="30d", metavar="TIME", help="For at least so long; 30d.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and delete nothing.")
def prune(session: Session, *, unused_for: float, dry_run: bool) -> Exit:
    """Delete models that nobody has used for long; none that a slot has or is configured with."""
    client = session.client(timeout_s=session.timeout or LOOK_S)
    view = client.get("/api/disk")
    unused = [it for it in view["items"] if _idle(it, view["unknown_before"], time.time() - unused_for)]
    if dry_run or not unused:
        session.rows(unused, _columns(session), name="id")
        size = session.size(sum(it["size_bytes"] for it in unused))
        session.note(f"{len(unused)} models, {size}, were not used for {units.duration(unused_for)}")
        return Exit.DONE
    session.confirm(f"Delete {', '.join(it['id'] for it in unused)}?")
    return _deleted(session, client, unused)


def _idle(it: Row, unknown_before: float | None, since: float) -> bool:
    """Nothing needs it, and it was neither brought since then nor used, as far as anybody can know."""
    latest = max(it["last_used"] or 0.0, unknown_before or 0.0, it["came_at"])
    return bool(it["removable"] and not it["kept_by"] and latest < since)


def _deleted(session: Session, client: Client, unused: Sequence[Json]) -> Exit:
    """One after the other; hal0 refuses what is in use by now."""
    gone = []
    for it in unused:
        try:
            gone.append(client.delete(f"/api/models/{part(it['id'])}"))
        except ApiError as e:
            session.note(f"error: {it['id']}: {e.message}   [{e.code}]")
    freed = session.size(sum(it["freed_bytes"] for it in gone))
    session.value(gone, "\n".join([*(f"{it['id']} is deleted" for it in gone), f"{freed} are free"]))
    if len(gone) == len(unused):
        return Exit.DONE
    return Exit.PARTLY if gone else Exit.FAILED
