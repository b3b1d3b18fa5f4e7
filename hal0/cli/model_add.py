"""`hal0ctl model add`: models of hal0's own machine, into its store."""

import os
from collections.abc import Iterator
from typing import Final

import click

from hal0.cli import follow
from hal0.cli.exits import Exit
from hal0.cli.model_fit import LOOK_S
from hal0.cli.model_pull import bring
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.client import ApiError, Client, Json

_TASKS: Final = ("chat", "embed", "rerank", "stt", "tts", "image")


@command("hal0ctl model add /disk/m.gguf --link")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("--id", "model_id", metavar="ID", help="What it shall be called here.")
@click.option("--task", type=click.Choice(_TASKS), help="What it is for, where its file leaves that open.")
@click.option("--link/--copy", help="Share the file instead of copying it; only on the models' own disk.")
@click.option("--recursive", is_flag=True, help="Every model in these folders, and in the folders in them.")
@follow.no_wait()
def add(
    session: Session,
    *,
    paths: tuple[str, ...],
    model_id: str | None,
    task: str | None,
    link: bool,
    recursive: bool,
    no_wait: bool,
) -> Exit:
    """Take a model into hal0's store: a file or a folder of hal0's own machine.

    Several are the files of one model. Folders that other programs use are best left where they are: name them in
    models.roots.
    """
    # A link keeps its name: what it leads to may be called by its digest alone.
    places = [*map(os.path.abspath, paths)]
    asked = {key: value for key, value in {"id": model_id, "task": task, "link": link}.items() if value}
    if not recursive:
        more = {"more": places[1:]} if places[1:] else {}
        return bring(session, {"model": places[0], **more, **asked}, slot=None, verify=False, no_wait=no_wait)
    if model_id is not None:
        raise click.UsageError("--id names one model: leave it out with --recursive")
    return _all(session, places, asked, no_wait=no_wait)


def _all(session: Session, folders: list[str], asked: Json, *, no_wait: bool) -> Exit:
    """One after the other; what cannot be taken does not keep the others out."""
    client = session.client(timeout_s=session.timeout or LOOK_S)
    taken: list[Json] = []
    failed = 0
    for it in _found(session, client, folders):
        first, *more = it["files"]
        try:
            job = client.post("/api/pulls", {"model": first, **({"more": more} if more else {}), **asked})
            taken.append(job if no_wait else follow.finished(session, client, job))
        except ApiError as e:
            session.note(f"error: {it['id']}: {e.message}   [{e.code}]")
            failed += 1
    session.value(taken, "\n".join(job["id"] if no_wait else f"{job['target']} is here" for job in taken))
    session.note(f"{len(taken)} models" + (f", {failed} could not be taken" if failed else ""))
    if not failed:
        return Exit.DONE
    return Exit.PARTLY if taken else Exit.FAILED


def _found(session: Session, client: Client, folders: list[str]) -> Iterator[Json]:
    """Those that are not here yet; the others are told."""
    for view in [client.post("/api/pulls/look", {"path": folder}) for folder in folders]:
        for problem in view["problems"]:
            session.note(f"note: {problem['message']}")
        for it in view["items"]:
            if it["here"]:
                session.note(f"{it['id']} is here")
            else:
                yield it
