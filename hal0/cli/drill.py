"""`hal0ctl drill`: breaks a staging slot of its own in every known way, and says which promises hal0 kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from hal0.cli import follow, units
from hal0.cli.drill_faults import FAULTS, Fault
from hal0.cli.drill_processes import Skip
from hal0.cli.drill_stage import Result, Stage
from hal0.cli.exits import Exit
from hal0.cli.names_of import ModelName
from hal0.cli.options import command
from hal0.cli.output import Column
from hal0.cli.session import Session
from hal0.cli.slots import ROUTABLE
from hal0.client import ApiError, Client, ClientError, Json

SLOT: Final = "drill"
DELETE_S: Final = 240.0  # its unload has deadlines of its own below this
# Small and quick to load again; the least of all when hal0 chooses; never loaded by somebody's request.
FIELDS: Final = {"context_size": 8192, "parallel": 1, "priority": 0, "load_on_request": False, "drain_s": 5}

COLUMNS: Final = (
    Column("FAULT", lambda r: r["fault"]),
    Column("RESULT", lambda r: r["outcome"]),
    Column("NOTICED", lambda r: _time(r["noticed_s"]), right=True),
    Column("RECOVERED", lambda r: _time(r["recovered_s"]), right=True),
    Column("CLIENT", lambda r: r["skipped"] or r["client"]),
)


@command("hal0ctl drill --only engine -o json")
@click.option("--model", type=ModelName(), help="What the staging slot serves (default: a small model no slot has).")
@click.option("--only", multiple=True, type=click.Choice([f.name for f in FAULTS]), help="This fault; may be repeated.")
@click.option("--slack", type=click.FloatRange(min=1), default=1.0, help="Widen every promised time by this factor.")
def drill(session: Session, *, model: str | None, only: tuple[str, ...], slack: float) -> Exit:
    """Break a staging slot in every known way; exit 9 when a promise is missed."""
    client = session.client()
    health = _here(client)
    chosen = [fault for fault in FAULTS if not only or fault.name in only]
    with _staging(session, client, model) as load_s:
        stage = Stage(client, SLOT, health, load_s, slack)
        results = [_try(session, fault, stage) for fault in chosen]
    session.rows([{**asdict(result), "outcome": result.outcome} for result in results], COLUMNS, name="fault")
    for result in results:
        for words in result.missed:
            session.note(f"missed: {result.fault}: {words}")
    counts = {word: sum(r.outcome == word for r in results) for word in ("held", "missed", "skipped")}
    session.note(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    # Without anything that held, nothing was shown to be well.
    return Exit.DONE if counts["held"] and not counts["missed"] else Exit.CHECK_FAILED


def _here(client: Client) -> Json:
    """Health of a hal0 whose processes can be reached from here. Raises ClientError for any other."""
    health = client.get("/api/health")
    with_pid = "pid" in health and Path(f"/proc/{health['pid']}").exists()
    if with_pid:
        try:
            instance = (Path(client.get("/api/status")["state_dir"]) / "instance").read_text().strip()
        except OSError:
            instance = ""
        if instance == health["instance"]:
            return health
    raise ClientError(
        "cli.not_here",
        f"cannot drill the hal0 at {client.target.described()}: its processes cannot be reached from here",
        hint="run it on hal0's own machine, as the user that hal0 runs as, without --url",
    )


@contextmanager
def _staging(session: Session, client: Client, model: str | None) -> Iterator[float]:
    """The staging slot, loaded; yields how long that took. It is gone at the end, however that comes."""
    if any(slot["name"] == SLOT for slot in client.get("/api/slots")["items"]):
        raise ClientError(
            "slot.exists",
            f"cannot drill: there is a slot {SLOT} already (of a drill that was killed?)",
            hint=f"hal0ctl slot delete {SLOT}",
        )
    client.post("/api/slots", {"name": SLOT, "model": model or _model(client), **FIELDS})
    try:
        yield _load(session, client)
    finally:
        session.note(f"removing the slot {SLOT}")
        client.request("DELETE", f"/api/slots/{SLOT}", timeout_s=DELETE_S)


def _model(client: Client) -> str:
    """The smallest chat model that no slot has; the demonstration model where there is none at all.

    A request that names a model may go to any slot that serves it: the drill must not attract other people's.
    """
    known = [entry for entry in client.get("/api/models")["items"] if "chat" in entry["capabilities"]]
    if known:
        best: Json = min(known, key=lambda entry: (bool(entry["slots"]), entry["size_bytes"]))
        return str(best["id"])
    return str(client.post("/api/models/demo")["id"])


def _load(session: Session, client: Client) -> float:
    job = follow.finished(session, client, client.post(f"/api/slots/{SLOT}/load"))
    return float(job["ended_at"] - job["started_at"])


def _try(session: Session, fault: Fault, stage: Stage) -> Result:
    """One fault, from a slot that answers; what hal0 answers with an error is a promise missed."""
    session.note(f"{fault.name}: {fault.about}")
    result = Result(fault.name)
    try:
        if stage.view()["state"] not in ROUTABLE:
            _load(session, stage.client)
        fault.run(stage, result)
    except Skip as why:
        result.skipped = str(why)
    except ApiError as e:
        result.missed.append(f"{e.message} [{e.code}]")
    return result


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else units.duration(seconds)
