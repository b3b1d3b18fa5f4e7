"""`hal0ctl key`: API keys for programs elsewhere, made, listed, rotated and revoked."""

import re
import time
from typing import Any, Final

import click

from hal0.cli import units
from hal0.cli.names_of import KeyName, SlotName
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import Json, part
from hal0.vocab import Scope

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """Seconds, or a number with its unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration, such as 90s, 30m, 12h or 30d", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


def _when(at: float | None, now: float) -> str:
    if at is None:
        return "-"
    return units.ago(at, now) if at <= now else f"in {units.duration(at - now)}"


def _limits(key: Row) -> str:
    words = [f"slots {','.join(key['slots'])}"] if key["slots"] else []
    words += [f"{key['rate_per_minute']}/min"] if key["rate_per_minute"] else []
    return " ".join(words) or "-"


COLUMNS: Final = (
    Column("NAME", lambda key: key["label"]),
    Column("ID", lambda key: key["id"]),
    Column("SCOPES", lambda key: ",".join(key["scopes"])),
    Column("LIMITS", _limits),
    Column("CREATED", lambda key: _when(key["created_at"], time.time())),
    Column("LAST USED", lambda key: _when(key["last_used"], time.time())),
    Column("EXPIRES", lambda key: _when(key["expires_at"], time.time())),
    Column("OLD UNTIL", lambda key: _when(key["old_until"], time.time()), wide=True),
)


@noun(short_help="API keys: list, create, rotate, revoke.")
def key() -> None:
    """API keys: for programs on other machines, and for web pages."""


@subcommand(key, "hal0ctl key list", name="list")
def list_(session: Session) -> None:
    """Every key, without its secret."""
    session.rows(session.client().get("/api/keys")["items"], COLUMNS, name="label")


@subcommand(key, "hal0ctl key create laptop --expires 90d")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows [inference].",
)
@click.option("--slot", "slots", multiple=True, type=SlotName(), help="Only this slot; may be repeated.")
@click.option("--rate", type=click.IntRange(min=1), metavar="N", help="At most N requests a minute.")
@click.option("--expires", type=Duration(), metavar="TIME", help="End after so long: 12h, 90d.")
def create(
    session: Session,
    *,
    name: str,
    scopes: tuple[str, ...],
    slots: tuple[str, ...],
    rate: int | None,
    expires: float | None,
) -> None:
    """Make a key; it is shown once, alone on stdout."""
    body = {
        "label": name,
        "scopes": list(scopes) or [Scope.INFERENCE],
        "slots": list(slots) or None,
        "rate_per_minute": rate,
        "expires_in_s": expires,
    }
    _show(session, session.client().post("/api/keys", body))


@subcommand(key, "hal0ctl key rotate laptop --grace 1h")
@click.argument("name", type=KeyName())
@click.option("--grace", type=Duration(), default=0.0, metavar="TIME", help="How long the old one stays good [0].")
def rotate(session: Session, *, name: str, grace: float) -> None:
    """Give a key a new secret; it is shown once."""
    _show(session, session.client().post(f"/api/keys/{part(name)}/rotate", {"grace_s": grace}))


@subcommand(key, "hal0ctl key revoke laptop")
@click.argument("name", type=KeyName())
def revoke(session: Session, *, name: str) -> None:
    """End a key, and what it has open."""
    view = session.client().delete(f"/api/keys/{part(name)}")
    session.value(view, "", name=view["label"])
    session.note(f"key {view['label']} is revoked")


def _show(session: Session, made: Json) -> None:
    session.value(made, made["key"])
    if not session.machine:
        session.note(f"key {made['label']} allows {', '.join(made['scopes'])}; this is the only time that it is shown")
