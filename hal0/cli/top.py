"""`hal0ctl top`: slots, memory and the last minute's requests on one screen, redrawn until interrupted."""

import sys
import time
from collections import defaultdict
from typing import Any, Final
from urllib.parse import urlencode

import click

from hal0.cli import units
from hal0.cli.options import command
from hal0.cli.output import Column, Json, table, terminal_width
from hal0.cli.session import Session
from hal0.cli.slots import active, by_name, until
from hal0.cli.watch import watched
from hal0.client import Client

_WINDOW_S: Final = 60.0
_MOST: Final = 500  # one page of the API: beyond, the figures are of so many and say so
_FAILED: Final = 400

COLUMNS: Final = (
    Column("NAME", lambda row: row["name"]),
    Column("STATE", lambda row: row["state"], state=True),
    Column("MODEL", lambda row: row["model"] or "-"),
    Column("ACTIVE", active, right=True),
    Column("REQ/MIN", lambda row: str(row["load"]["requests"]), right=True),
    Column("FAILED", lambda row: str(row["load"]["failed"]), right=True),
    Column("TOK/S", lambda row: _rate(row["load"]["tokens_per_second"]), right=True),
    Column("FIRST BYTE", lambda row: _ms(row["load"]["first_byte_ms"]), right=True),
    Column("UNTIL", until),
)


@command("hal0ctl top --once")
@click.option("--interval", type=click.FloatRange(min=0.2), default=2.0, metavar="SEC", help="Redraw so often [2].")
@click.option("--once", is_flag=True, help="Show it once.")
def top(session: Session, *, interval: float, once: bool) -> None:
    """Slots and requests live; once when not on a terminal."""
    client = session.client()
    if once or session.machine or not sys.stdout.isatty():
        _show(session, _seen(client))
        return
    # No topic: with every request something changes, and each look asks three times.
    watched(session, client, lambda: _show(session, _seen(client)), topic=None, refresh_s=interval)


def _seen(client: Client) -> Json:
    """One look: the status, and the slots with what the last minute's requests were like."""
    status = client.get("/api/status")
    query = urlencode({"limit": _MOST, "since": f"{time.time() - _WINDOW_S:.3f}"})
    requests: list[Json] = client.get(f"/api/decisions?{query}")["items"]
    by_target: dict[str, list[Json]] = defaultdict(list)
    for request in requests:
        by_target[request["target"] or ""].append(request)
    slots = [{**slot, "load": _load(by_target[slot["name"]])} for slot in by_name(client.get("/api/slots")["items"])]
    return {"status": status, "requests": _load(requests), "complete": len(requests) < _MOST, "slots": slots}


def _load(requests: list[Json]) -> Json:
    """Of so many requests: how many, how many failed, and the middle of their figures."""
    return {
        "requests": len(requests),
        "failed": sum(request["status"] >= _FAILED for request in requests),
        "completion_tokens": sum(request["completion_tokens"] or 0 for request in requests),
        "tokens_per_second": _middle(request["tokens_per_second"] for request in requests),
        "first_byte_ms": _middle(request["first_byte_ms"] for request in requests),
        "total_ms": _middle(request["total_ms"] for request in requests),
    }


def _middle(values: Any) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None


def _show(session: Session, found: Json) -> None:
    if session.machine or session.output == "name":
        session.rows(found["slots"], ()) if session.output == "name" else session.value(found, "")
        return
    status, load = found["status"], found["requests"]
    total, free = status["memory_total_bytes"], status["memory_available_bytes"]
    count = f"{load['requests']} requests" if found["complete"] else f"the last {_MOST} of more requests"
    ends = f"{load['failed']} failed, {load['completion_tokens']} tokens, {_ms(load['total_ms'])} in the middle"
    lines = [
        f"hal0 {status['version']}, up {units.duration(status['uptime_s'])}, {status['in_flight']} in flight",
        f"memory {session.size(total - free)} of {session.size(total)}, {session.size(free)} free",
        f"last minute {count}, {ends}",
        "",
    ]
    session.say("\n".join(lines))
    sys.stdout.write(
        table(found["slots"], COLUMNS, width=terminal_width(), headers=not session.no_headers, colour=session.colour)
    )
    sys.stdout.flush()


def _ms(ms: float | None) -> str:
    if ms is None:
        return "-"
    return f"{ms:.0f} ms" if ms < 1000 else units.duration(ms / 1000)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"
