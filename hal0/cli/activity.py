"""`hal0ctl activity`: what happened to hal0, as it was or as it comes."""

import time
from typing import Final
from urllib.parse import urlencode

import click

from hal0.cli import units
from hal0.cli.feed import Feed, entity
from hal0.cli.key import Duration
from hal0.cli.options import command
from hal0.cli.output import Column, Json, machine
from hal0.cli.session import Session
from hal0.client import Client
from hal0.lib.clock import iso

_TAIL: Final = 20
_MOST: Final = 500
_TICK_S: Final = 1.0

COLUMNS: Final = (
    Column("WHEN", lambda entry: units.ago(entry["at"], time.time())),
    Column("WHAT", lambda entry: entry["kind"]),
    Column("BY", lambda entry: entry["by"] or "-"),
    Column("MESSAGE", lambda entry: units.plain(entry["message"])),
    Column("SUBJECT", lambda entry: entry["subject"], wide=True),
    Column("ID", lambda entry: str(entry["id"]), wide=True),
)


@command("hal0ctl activity --kind slot --since 2h")
@click.option("-n", "--tail", type=click.IntRange(1, _MOST), default=_TAIL, help="So many entries [20].")
@click.option("--kind", metavar="KIND", help="Only these: slot, slot.failed, job, upstream.")
@click.option("--subject", metavar="NAME", help="Only of this slot, upstream or other thing.")
@click.option("--since", type=Duration(), metavar="TIME", help="Only of the last 30m, 12h, 7d.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
def activity(
    session: Session, *, tail: int, kind: str | None, subject: str | None, since: float | None, follow: bool
) -> None:
    """What happened: loads, failures, jobs, upstreams; the newest last."""
    client = session.client()
    wanted = {"kind": kind, "subject": subject}
    query = {"limit": tail, **{name: value for name, value in wanted.items() if value is not None}}
    if since is not None:
        query["since"] = f"{time.time() - since:.3f}"
    page = client.get(f"/api/activity?{urlencode(query)}")
    items: list[Json] = page["items"][::-1]
    if page["problem"] is not None:
        session.note(f"the newest may be missing: {page['problem']}")
    if not follow:
        session.rows(items, COLUMNS, name="id")
        return
    for entry in items:
        _say(session, entry)
    _follow(session, client, kind, subject)


def _follow(session: Session, client: Client, kind: str | None, subject: str | None) -> None:
    deadline = time.monotonic() + session.timeout if session.timeout else float("inf")
    with Feed(client) as feed:
        while (left := deadline - time.monotonic()) > 0:
            event = feed.next(min(left, _TICK_S))
            topic, _, entry = entity(event) if event is not None else ("", "", None)
            if topic != "activity" or entry is None:
                continue
            of_kind = kind is None or f"{entry['kind']}.".startswith(f"{kind}.")
            if of_kind and subject in (None, entry["subject"]):
                _say(session, entry)


def _say(session: Session, entry: Json) -> None:
    if session.machine:
        session.say(machine([entry], "jsonl" if session.output == "json" else session.output))
    else:
        session.say(f"{iso(entry['at'])}  {units.plain(entry['message'])}")
