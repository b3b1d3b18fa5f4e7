"""`hal0ctl pull`, and what `hal0ctl model` does with models that are on their way to this machine."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import click

from hal0.cli import follow, units
from hal0.cli.exits import Exit
from hal0.cli.model_fit import LOOK_S, weigh
from hal0.cli.names_of import PullId, SlotName
from hal0.cli.options import command
from hal0.cli.output import Column
from hal0.cli.progress import pace_words
from hal0.cli.session import Session
from hal0.cli.watch import watched
from hal0.client import ApiError, Client, Json, part

_MOST_BYTES: Final = 1 << 50


class Size(click.ParamType[int]):
    """Bytes, or a number with its unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?)b?|b)?", str(value).lower())
        count = float(found[1]) * (1024 if found[3] else 1000) ** " kmgt".index(found[2] or " ") if found else 0
        if not 1 <= count <= _MOST_BYTES:
            self.fail(f"{value!r} is not a size, such as 500kB, 5MB or 1GiB", param, ctx)
        return int(count)


def _wanted() -> Callable[[Callable[..., object]], Callable[..., object]]:
    """What both spellings of a pull take."""

    def decorate(f: Callable[..., object]) -> Callable[..., object]:
        for option in (
            follow.no_wait(),
            click.option("--dry-run", is_flag=True, help="Say its size and whether it would fit, and fetch nothing."),
            click.option("--slot", type=SlotName(), help="Load it into this slot once it is here."),
            click.option("--verify", is_flag=True, help="Read it once more in the end, also when it was here before."),
            click.option("--rate", "rate_limit", type=Size(), metavar="SIZE", help="At most so much a second: 5MB."),
            click.option("--file", metavar="PATH", help="This file of the repository."),
            click.option("--quant", metavar="QUANT", help="This quantisation, such as Q4_K_M."),
            click.option("--attach", metavar="ID", type=PullId(), help="Follow a download that is under way instead."),
            click.argument("names", metavar="MODEL...", nargs=-1),
        ):
            f = option(f)
        return f

    return decorate


@command("hal0ctl model pull Qwen/Qwen3-4B-GGUF:Q4_K_M")
@_wanted()
@click.option("--id", "model_id", metavar="ID", help="What it shall be called here.")
@click.option("--sha256", metavar="DIGEST", help="What the first address's file has to be.")
def pull_of_model(session: Session, *, model_id: str | None, sha256: str | None, **wanted: Any) -> Exit:
    """Download a model: of the catalog, OWNER/REPOSITORY[:QUANT], a file of it, an address, a path on hal0's machine.

    Several are the files of one model. It goes on when this command is left, and when hal0 is restarted.
    """
    asked = {"id": model_id, "sha256": sha256}
    return _pull(session, {key: value for key, value in asked.items() if value is not None}, **wanted)


@command("hal0ctl pull Qwen/Qwen3-4B-GGUF:Q4_K_M")
@_wanted()
def pull_(session: Session, **wanted: Any) -> Exit:
    """Download a model; short for hal0ctl model pull."""
    return _pull(session, {}, **wanted)


def _pull(
    session: Session,
    asked: Json,
    *,
    names: tuple[str, ...],
    attach: str | None,
    quant: str | None,
    file: str | None,
    rate_limit: int | None,
    dry_run: bool,
    **then: Any,
) -> Exit:
    if attach is not None:
        if any((names, quant, file, rate_limit, dry_run, *asked.values(), *then.values())):
            raise click.UsageError("--attach follows one download: leave out the model and the other options")
        return _attached(session, attach)
    names = _named(names, quant, file)
    if dry_run:
        if len(names) > 1:
            raise click.UsageError("--dry-run looks at one model of the catalog or the hub")
        return weigh(session, names[0], slot=then["slot"])
    body = {"model": names[0], **({"more": names[1:]} if names[1:] else {}), **asked}
    return bring(session, body if rate_limit is None else {**body, "rate_limit": rate_limit}, **then)


def _attached(session: Session, pull_id: str) -> Exit:
    client = session.client()
    view = client.get(f"/api/pulls/{part(pull_id)}")
    job = follow.finished(session, client, client.get(f"/api/jobs/{part(view['id'])}"))
    session.value(job, "", name=job["target"])
    session.note(_pulled(job))
    return Exit.DONE


def _named(names: tuple[str, ...], quant: str | None, file: str | None) -> tuple[str, ...]:
    """As a place is written in one word."""
    if not names:
        raise click.UsageError("name a model: hal0ctl model list --catalog, or OWNER/REPOSITORY[:QUANT]")
    if quant is None and file is None:
        return names
    if len(names) > 1 or (quant is not None and file is not None):
        raise click.UsageError("--quant or --file say which part of one place is meant")
    return (f"{names[0]}/{file}" if file is not None else f"{names[0]}:{quant}",)


def bring(session: Session, body: Json, *, slot: str | None, verify: bool, no_wait: bool) -> Exit:
    """Have it fetched, and what shall be done with it then."""
    client = session.client(timeout_s=session.timeout or LOOK_S * (1 + len(body.get("more", ()))))

    def begun(job: Json) -> None:
        with suppress(ApiError):  # a small one may be here already
            if licence := client.get(f"/api/pulls/{job['id']}")["license"]:
                session.note(f"{job['target']} comes under its licence {licence}")

    if slot is None and not verify:
        return follow.start(session, client, "/api/pulls", body, wait=not no_wait, done=_pulled, begun=begun)
    if no_wait:
        raise click.UsageError("--slot and --verify wait for the download: leave out --no-wait")
    if slot is not None:
        client.get(f"/api/slots/{part(slot)}")  # one that is none is told before gigabytes come for it
    model = _brought(session, client, body, begun)
    if verify:
        path = f"/api/models/{part(model)}/verify"
        follow.start(session, client, path, {}, wait=True, done=lambda _job: f"{model} is here, and was read again")
    if slot is None:
        return Exit.DONE
    path, said = f"/api/slots/{part(slot)}/swap", f"{slot} has {model}"
    return follow.start(session, client, path, {"model": model}, wait=True, done=lambda _job: said)


def _brought(session: Session, client: Client, body: Json, begun: Callable[[Json], None]) -> str:
    """The id of the model once it is here, as it may have been before."""
    try:
        job = client.post("/api/pulls", body)
    except ApiError as e:
        if e.code != "model.exists":
            raise
        return str(e.details["model"])
    begun(job)
    return str(follow.finished(session, client, job)["target"])


def _pulled(job: Json) -> str:
    return f"{job['target']} is here: hal0ctl slot swap SLOT {job['target']}"


_PULLS: Final = (
    Column("ID", lambda it: it["id"]),
    Column("MODEL", lambda it: it["model"]),
    Column("STATE", lambda it: it["state"]),
    Column("PROGRESS", lambda it: pace_words(it["pace"])),
    Column("STARTED", lambda it: units.ago(it["started_at"], time.time())),
    Column(
        "SOURCE", lambda it: it["source"].get("repo") or it["source"].get("url") or it["source"].get("path"), wide=True
    ),
    Column("MESSAGE", lambda it: units.plain((it["error"] or it)["message"])),
)


@command("hal0ctl model pulls")
@click.option("-w", "--watch", is_flag=True, help="Keep showing changes.")
def pulls(session: Session, *, watch: bool) -> None:
    """Downloads that have not ended, the last one first."""
    client = session.client()

    def show() -> None:
        session.rows(client.get("/api/pulls")["items"], _PULLS, name="id")

    watched(session, client, show, topic="job") if watch else show()


@command("hal0ctl model pause ID")
@click.argument("pull_id", metavar="ID", type=PullId())
def pause(session: Session, *, pull_id: str) -> None:
    """Stop a download; what has come is kept."""
    view = session.client().post(f"/api/pulls/{part(pull_id)}/pause")
    session.value(view, f"{view['model']} is paused, {pace_words(view['pace'])} are here", name=pull_id)


@command("hal0ctl model resume ID")
@click.argument("pull_id", metavar="ID", type=PullId())
@follow.no_wait()
def resume(session: Session, *, pull_id: str, no_wait: bool) -> Exit:
    """Go on with a download that was paused or has failed."""
    path = f"/api/pulls/{part(pull_id)}/resume"
    return follow.start(session, session.client(), path, {}, wait=not no_wait, done=_pulled)


@command("hal0ctl model cancel ID")
@click.argument("pull_id", metavar="ID", type=PullId())
def cancel(session: Session, *, pull_id: str) -> None:
    """Give up a download; nothing of it stays."""
    view = session.client().delete(f"/api/pulls/{part(pull_id)}")
    ended = "done" if view["state"] == "done" else "given up"  # one that was paused stays as its job ended
    session.value(view, f"the download of {view['target']} is {ended}", name=pull_id)
