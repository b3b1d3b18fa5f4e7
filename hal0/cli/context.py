"""`hal0ctl context`: names for the hal0s that one looks after from here."""

import json
from typing import Final

import click

from hal0 import paths
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column
from hal0.cli.session import Session
from hal0.cli.target import Contexts
from hal0.lib.atomic import write_atomic

COLUMNS: Final = (
    Column("NAME", lambda entry: entry["name"]),
    Column("IN USE", lambda entry: "yes" if entry["current"] else "-"),
    Column("URL", lambda entry: entry["url"]),
    Column("KEY FILE", lambda entry: entry["api_key_file"] or "-"),
)


@noun(short_help="Named targets: list, add, use, delete.")
def context() -> None:
    """Contexts: names for other hal0s, for --context."""


@subcommand(context, "hal0ctl context list", name="list")
def list_(session: Session) -> None:
    """Every context."""
    known = _known()
    items = [
        {"name": name, "current": name == known.current, "url": e["url"], "api_key_file": e.get("api_key_file")}
        for name, e in known.entries.items()
    ]
    session.rows(items, COLUMNS)


@subcommand(context, "hal0ctl --url http://box:8080 --api-key-file ~/box.key context add box")
@click.argument("name")
def add(session: Session, *, name: str) -> None:
    """Remember --url and --api-key-file under a name."""
    if not session.url:
        raise click.UsageError("say where it is with --url")
    known = _known()
    key_file = {"api_key_file": session.api_key_file} if session.api_key_file else {}
    known.entries[name] = {"url": session.url, **key_file}
    _save(known)


@subcommand(context, "hal0ctl context use box")
@click.argument("name", required=False)
@click.option("--none", "local", is_flag=True, help="Back to this machine's own hal0.")
def use(session: Session, *, name: str | None, local: bool) -> None:
    """Make a context the default."""
    if local == bool(name):
        raise click.UsageError("name a context, or give --none")
    known = _known()
    if name:
        known.get(name)
    known.current = name
    _save(known)


@subcommand(context, "hal0ctl context delete box")
@click.argument("name")
def delete(session: Session, *, name: str) -> None:
    """Forget a context."""
    known = _known()
    known.get(name)
    del known.entries[name]
    known.current = None if known.current == name else known.current
    _save(known)


def _known() -> Contexts:
    return Contexts.load(paths.resolve())


def _save(known: Contexts) -> None:
    known.file.parent.mkdir(parents=True, exist_ok=True)
    data = {"current": known.current, "contexts": known.entries}
    write_atomic(known.file, json.dumps(data, indent=2).encode() + b"\n")
