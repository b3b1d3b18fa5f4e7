"""`hal0ctl job`: long-running work, listed, followed and cancelled."""

import time
from typing import Final

import click

from hal0.cli import follow, units
from hal0.cli.names_of import JobId
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import part


def _progress(job: Row) -> str:
    if job["error"]:
        return str(job["error"].get("message") or "failed")
    if job["state"] not in follow.RUNNING or not job["progress"]:
        return job["note"] or "-"
    fraction, message = job["progress"]["fraction"], job["progress"]["message"]
    about = "~" if job["progress"]["source"] == "estimate" else ""
    return f"{about}{fraction:.0%} {message}" if fraction is not None else str(message)


def _took(job: Row) -> str:
    return units.duration((job["ended_at"] or time.time()) - job["started_at"])


COLUMNS: Final = (
    Column("ID", lambda job: job["id"]),
    Column("KIND", lambda job: job["kind"]),
    Column("TARGET", lambda job: job["target"]),
    Column("STATE", lambda job: job["state"]),
    Column("STARTED", lambda job: units.ago(job["started_at"], time.time())),
    Column("TOOK", _took, right=True),
    Column("BY", lambda job: job["by"], wide=True),
    Column("PROGRESS", lambda job: units.plain(_progress(job))),
)


@noun(short_help="Jobs: list, show, wait, cancel.")
def job() -> None:
    """Jobs: loads, swaps, image builds, running or ended."""


@subcommand(job, "hal0ctl job list --running", name="list")
@click.option("--running", is_flag=True, help="Only those that have not ended.")
def list_(session: Session, *, running: bool) -> None:
    """Jobs, the last one first."""
    items = session.client().get("/api/jobs")["items"]
    items.sort(key=lambda j: j["started_at"], reverse=True)
    session.rows([j for j in items if not running or j["state"] in follow.RUNNING], COLUMNS, name="id")


@subcommand(job, "hal0ctl job show ID")
@click.argument("job_id", metavar="ID", type=JobId())
def show(session: Session, *, job_id: str) -> None:
    """One job."""
    view = session.client().get(f"/api/jobs/{part(job_id)}")
    text = "\n".join(f"{c.header.lower():<10} {c.cell(view)}" for c in COLUMNS)
    session.value(view, text, name=job_id)


@subcommand(job, "hal0ctl job wait ID --timeout 600")
@click.argument("job_id", metavar="ID", type=JobId())
def wait(session: Session, *, job_id: str) -> None:
    """Wait until a job has ended; exits as the job did, 7 after --timeout."""
    client = session.client()
    view = follow.finished(session, client, client.get(f"/api/jobs/{part(job_id)}"))
    session.value(view, "", name=job_id)


@subcommand(job, "hal0ctl job cancel ID")
@click.argument("job_id", metavar="ID", type=JobId())
def cancel(session: Session, *, job_id: str) -> None:
    """Stop a job that has not ended."""
    view = session.client().delete(f"/api/jobs/{part(job_id)}")
    session.value(view, "", name=job_id)
    session.note(f"{view['kind']} {job_id} is {view['state']}") if not session.machine else None
