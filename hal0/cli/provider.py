"""`hal0ctl provider`: the engines that there are."""

from typing import Final

import click

from hal0.cli.names_of import ProviderWord
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import part


def _devices(view: Row) -> str:
    """Those whose image is not here are in brackets."""
    words = [it["device"] if it["here"] else f"({it['device']})" for it in view["devices"]]
    return ", ".join(words) or "-"


_COLUMNS: Final = (
    Column("NAME", lambda it: it["name"]),
    Column("DOES", lambda it: ", ".join(it["capabilities"])),
    Column("DEVICES", _devices),
    Column("SLOTS", lambda it: ", ".join(it["slots"]) or "-"),
    Column("TAGS", lambda it: str(len(it["tags"])) if it["tags"] else "-", right=True, wide=True),
)


@noun(short_help="Providers: list, show.")
def provider() -> None:
    """Providers: the engines inside the containers."""


@subcommand(provider, "hal0ctl provider list", name="list")
def list_(session: Session) -> None:
    """Every engine, what it does, and on what; a device in brackets has no image here."""
    session.rows(session.client().get("/api/providers")["items"], _COLUMNS)


@subcommand(provider, "hal0ctl provider show flm")
@click.argument("name", type=ProviderWord())
def show(session: Session, *, name: str) -> None:
    """One engine, and the models that only it knows."""
    view = session.client().get(f"/api/providers/{part(name)}")
    lines = [f"{column.header.lower():10}{column.cell(view)}" for column in _COLUMNS]
    images = [
        f"image     {it['image']} for {it['device']}{'' if it['here'] else ', not here'}" for it in view["devices"]
    ]
    session.value(view, "\n".join([*lines, *images, *(f"tag       {tag}" for tag in view["tags"])]), name=name)
