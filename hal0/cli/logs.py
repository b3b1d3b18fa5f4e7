"""`hal0ctl logs`: what the engines wrote, of one slot or merged, as it was or as it comes."""

import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import click

from hal0.cli import units
from hal0.cli.names_of import SlotName
from hal0.cli.options import command
from hal0.cli.output import Json, machine
from hal0.cli.session import Session
from hal0.cli.slots import LOADED
from hal0.client import Client, ClientError, part
from hal0.lib.clock import iso

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_TAIL: Final = 100


def log_options(f: F) -> F:
    f = click.option("--grep", metavar="REGEX", help="Only lines that match.")(f)
    f = click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")(f)
    f = click.option(
        "-n", "--tail", type=click.IntRange(min=0), default=DEFAULT_TAIL, help="Begin so many lines back."
    )(f)
    return click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")(f)


@command("hal0ctl logs primary -f")
@click.argument("sources", metavar="[SLOT]...", nargs=-1, type=SlotName())
@log_options
def logs(session: Session, *, sources: tuple[str, ...], **wanted: Any) -> None:
    """Logs of these slots, or of every loaded one."""
    client = session.client()
    names = list(sources) or [s["name"] for s in client.get("/api/slots")["items"] if s["state"] in LOADED]
    if not names:
        session.note("no slot is loaded; name one to see its last log")
    show_logs(session, client, names, **wanted)


def show_logs(
    session: Session, client: Client, names: list[str], *, follow: bool, tail: int, timestamps: bool, grep: str | None
) -> None:
    """Prints lines of `names` until they end; with several, each line says whose it is."""
    try:
        wanted = re.compile(grep) if grep else None
    except re.error as e:
        raise click.UsageError(f"--grep is not a regular expression: {e}") from e
    width = max(map(len, names), default=0) if len(names) > 1 else 0
    for name, line in _followed(client, names, tail) if follow else _stored(client, names, tail):
        text = units.plain(line["text"]).rstrip("\n")
        if wanted and not wanted.search(text):
            continue
        if session.machine:
            sys.stdout.write(machine({"slot": name, **line}, "jsonl"))
        else:
            stamp = f"{iso(line['at'])} " if timestamps and line["at"] is not None else ""
            sys.stdout.write(f"{name:<{width}} | {stamp}{text}\n" if width else f"{stamp}{text}\n")
        if follow:
            sys.stdout.flush()


def _stored(client: Client, names: list[str], tail: int) -> Iterator[tuple[str, Json]]:
    lines = [
        (name, line) for name in names for line in client.get(f"/api/slots/{part(name)}/logs?tail={tail}")["items"]
    ]
    if len(names) > 1:
        lines.sort(key=lambda entry: entry[1]["at"] or 0.0)
    yield from lines


def _followed(client: Client, names: list[str], tail: int) -> Iterator[tuple[str, Json]]:
    """One reader per slot, one queue; ends when every slot's log has ended."""
    lines: queue.SimpleQueue[tuple[str, Json | ClientError | None]] = queue.SimpleQueue()

    def read(name: str) -> None:
        try:
            for event in client.stream("GET", f"/api/slots/{part(name)}/logs?tail={tail}&follow=true"):
                if isinstance(event.data, dict) and "text" in event.data:
                    lines.put((name, event.data))
            lines.put((name, None))
        except ClientError as e:
            lines.put((name, e))

    for name in names:
        threading.Thread(target=read, args=(name,), name=f"logs {name}", daemon=True).start()
    open_logs = len(names)
    while open_logs:
        name, line = lines.get()
        if isinstance(line, ClientError):
            raise line
        if line is None:
            open_logs -= 1
        else:
            yield name, line
