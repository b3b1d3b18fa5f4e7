"""`hal0ctl profile`: named sets of slot fields."""

from typing import Final

import click

from hal0.cli import units
from hal0.cli.assigned import assigned, value_text
from hal0.cli.names_of import ProfileName
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column
from hal0.cli.session import Session
from hal0.client import Json, part

_FIELDS: Final = ("provider", "device", "image", "context_size", "parallel", "extra_args", "request_defaults", "note")

_COLUMNS: Final = (
    Column("NAME", lambda it: it["name"]),
    Column("DEVICE", lambda it: it["device"] or "-"),
    Column("CTX", lambda it: units.context(it["context_size"]), right=True),
    Column("ARGUMENTS", lambda it: " ".join(it["extra_args"]) or "-", wide=True),
    Column("USED BY", lambda it: ", ".join(it["used_by"]) or "-"),
    Column("NOTE", lambda it: (it["note"] or "-") + ("" if it["builtin"] else "  (your own)")),
)


@noun(short_help="Profiles: list, show, set, rm.")
def profile() -> None:
    """Profiles: named sets of slot fields; a slot's own fields win over them."""


@subcommand(profile, "hal0ctl profile list", name="list")
def list_(session: Session) -> None:
    """Every profile: those of hal0, then your own."""
    session.rows(session.client().get("/api/profiles")["items"], _COLUMNS)


@subcommand(profile, "hal0ctl profile show moe")
@click.argument("name", type=ProfileName())
def show(session: Session, *, name: str) -> None:
    """What a profile says."""
    view = session.client().get(f"/api/profiles/{part(name)}")
    said = [(key, view[key]) for key in _FIELDS if view[key] not in (None, [], {})]
    lines = [f"{key:<17} {value_text(value)}" for key, value in (*said, ("used by", ", ".join(view["used_by"]) or "-"))]
    session.value(view, "\n".join(lines), name=name)


@subcommand(profile, "hal0ctl profile set mine --like moe context_size=8192 'extra_args=--cpu-moe'", name="set")
@click.argument("name", type=ProfileName())
@click.argument("fields", metavar="KEY=VALUE...", nargs=-1)
@click.option("--like", type=ProfileName(), help="Begin as a copy of this profile.")
def set_(session: Session, *, name: str, fields: tuple[str, ...], like: str | None) -> None:
    """Make a profile, or change one. KEY= takes a value away."""
    body: Json = {} if like is None else {"like": like}
    body |= assigned(fields, _FIELDS)
    if not body:
        raise click.UsageError("say what to set, such as context_size=8192, or --like PROFILE")
    view = session.client().request("PUT", f"/api/profiles/{part(name)}", body)
    session.value(view, "", name=name)
    users = ", ".join(view["used_by"])
    session.note(f"{name} is set" + (f"; {users} will start by it" if users else ""))


@subcommand(profile, "hal0ctl profile rm mine -y", name="rm")
@click.argument("name", type=ProfileName())
def rm(session: Session, *, name: str) -> None:
    """Delete a profile of your own."""
    client = session.client()
    client.get(f"/api/profiles/{part(name)}")
    session.confirm(f"Delete profile {name}?")
    session.value(client.delete(f"/api/profiles/{part(name)}"), "", name=name)
    session.note(f"{name} is deleted")
