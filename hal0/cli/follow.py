"""Waits for a job or for a slot's state, showing progress; Ctrl-C lets go of the waiting, never of the work."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import click

from hal0.cli.exits import STILL_RUNNING, Exit
from hal0.cli.feed import Feed, entity
from hal0.cli.progress import Silent, Steps, display_for, step_of_job, step_of_slot
from hal0.cli.session import Session
from hal0.cli.slots import ROUTABLE
from hal0.client import ApiError, Client, ClientError, Json, Unreachable, part

TICK_S: Final = 0.25  # the clock in the progress line
POLL_S: Final = 2.0  # right even if every event is lost
FRESH_S: Final = 0.5  # a job older than this was joined: its first steps were not seen

RUNNING: Final = frozenset({"queued", "running"})
WAITS: Final = {"ready": ROUTABLE, "offline": frozenset({"offline"}), "idle": frozenset({"idle"})}


class StillRunning(ClientError):
    """The wait is over, the work is not."""

    def __init__(self, what: str, follow: str) -> None:
        super().__init__(STILL_RUNNING, f"cannot wait any longer, {what}", hint=f"follow it with: {follow}")


def finished(session: Session, client: Client, job: Json) -> Json:
    """The job when it has ended well. Raises ApiError when it did not, StillRunning after --timeout."""
    if job["state"] in RUNNING:
        try:
            job = _until_ended(session, client, job)
        except KeyboardInterrupt:
            verb, pull = job["kind"].rpartition(".")[2], job["kind"] == "model.pull"
            follow, stop = ("pull --attach", "model cancel") if pull else ("job wait", "job cancel")
            name = job["id"]
            session.note(f"The {verb} continues. Follow: hal0ctl {follow} {name}. Stop: hal0ctl {stop} {name}")
            raise
    if job["state"] == "done":
        return job
    if job["error"]:
        raise ApiError.from_member(job["error"])
    reason = job["note"] or {"superseded": "a later command replaced it"}.get(job["state"], "no reason was given")
    raise ApiError(f"job.{job['state']}", f"the {job['kind']} of {job['target']} was {job['state']}: {reason}")


def _until_ended(session: Session, client: Client, job: Json) -> Json:
    fresh = job["kind"] in ("load", "swap", "restart") and time.time() - job["started_at"] < FRESH_S
    steps = Steps(display_for(session), fresh_load=fresh)
    deadline = time.monotonic() + session.timeout if session.timeout else float("inf")
    polled = time.monotonic()
    try:
        with Feed(client) as feed:
            while job["state"] in RUNNING:
                if time.monotonic() > deadline:
                    raise StillRunning(f"{job['kind']} {job['id']} continues", f"hal0ctl job wait {job['id']}")
                job = _progressed(feed, job, steps)
                if time.monotonic() - polled > POLL_S:
                    polled = time.monotonic()
                    with suppress(Unreachable):  # hal0 may be restarting; the feed knows when to give up
                        job = client.get(f"/api/jobs/{job['id']}")
    finally:
        steps.leave()
    ended = job["ended_at"] or time.time()
    steps.see(None, at=ended) if job["state"] == "done" else steps.fail(ended)
    return job


def _progressed(feed: Feed, job: Json, steps: Steps) -> Json:
    """One event or one tick further; the job as it is known then."""
    event = feed.next(TICK_S)
    if event is None:
        steps.tick()
        return job
    topic, name, value = entity(event)
    if value is None:
        return job
    if topic == "job" and name == job["id"]:
        if value["state"] in RUNNING and "." in job["kind"]:  # it is no slot's
            steps.see(step_of_job(value), at=time.time())
        return value
    if topic == "slot" and name == job["target"] and (step := step_of_slot(value)):
        steps.see(step, at=step.since)
    return job


def slot_in(session: Session, client: Client, name: str, goal: str) -> Json:
    """The slot once it is in a state of WAITS[goal]. Raises ApiError when it never will be by itself."""
    slot = client.get(f"/api/slots/{part(name)}")
    steps = Steps(Silent() if slot["state"] in WAITS[goal] else display_for(session))
    deadline = time.monotonic() + session.timeout if session.timeout else float("inf")
    try:
        with Feed(client) as feed:
            while slot["state"] not in WAITS[goal]:
                _give_up(slot, goal)
                if time.monotonic() > deadline:
                    what = f"{name} is {slot['state']}, not {goal}"
                    raise StillRunning(what, f"hal0ctl slot wait {name} --for {goal}")
                slot = _changed(feed, slot, steps)
    finally:
        steps.leave()
    steps.see(None, at=slot["since"])
    return slot


def _changed(feed: Feed, slot: Json, steps: Steps) -> Json:
    event = feed.next(TICK_S)
    if event is None:
        steps.tick()
        return slot
    topic, name, value = entity(event)
    if topic != "slot" or name != slot["name"] or value is None:
        return slot
    steps.see(step_of_slot(value), at=value["since"])  # type: ignore[arg-type]
    return value


def _give_up(slot: Json, goal: str) -> None:
    failure = slot["failure"]
    if goal != "offline" and slot["state"] == "error" and failure and failure["failure_class"] == "permanent":
        raise ApiError(failure["code"], failure["message"], hint=f"hal0ctl slot show {slot['name']}")


def start(
    session: Session,
    client: Client,
    path: str,
    body: Json,
    *,
    wait: bool,
    done: Callable[[Json], str],
    begun: Callable[[Json], None] = lambda _job: None,
) -> Exit:
    """Posts a verb that answers with a job, then waits for it (or prints its id) and says how it ended."""
    job = client.post(path, body)
    begun(job)
    if not wait:
        session.value(job, job["id"], name=job["id"])
        return Exit.DONE
    job = finished(session, client, job)
    if session.machine or session.output == "name":
        session.value(job, "", name=job["target"])
    else:
        session.note(done(job))
        if job["note"]:
            session.note(f"note: {job['note']}")
    return Exit.DONE


def no_wait() -> Callable[[Callable[..., object]], Callable[..., object]]:
    """The flag of every verb that starts work."""
    return click.option("--no-wait", is_flag=True, help="Print the job's id and return at once.")
