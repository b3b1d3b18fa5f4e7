"""`hal0ctl model`: the models on this machine and on their way to it, their names, and who answers for them."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from hal0.cli import follow, units
from hal0.cli.exits import Exit
from hal0.cli.names_of import ModelName, PullId, SlotName, UpstreamName
from hal0.cli.options import command, noun, subcommand
from hal0.cli.output import Column, Row
from hal0.cli.progress import pace_words
from hal0.cli.session import Session
from hal0.cli.watch import watched
from hal0.client import ApiError, Client, Json

# hal0 looks at each place that is named, for half a minute at most, before it answers.
LOOK_S: Final = 60.0


def _columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("MODEL", lambda it: it["id"]),
        Column("CAN", lambda it: ",".join(it["capabilities"])),
        Column("SIZE", lambda it: session.size(it["size_bytes"]), right=True),
        Column("QUANT", lambda it: it["quantisation"] or "-"),
        Column("CTX", lambda it: units.context(it["context_length"]), right=True),
        Column("SLOTS", lambda it: ",".join(it["slots"]) or "-"),
        Column("ALIASES", lambda it: ",".join(it["aliases"]) or "-"),
        Column("LICENCE", lambda it: it["license"] or "-", wide=True),
        Column("FORMAT", lambda it: it["format"], wide=True),
        Column("ARCHITECTURE", lambda it: it["architecture"], wide=True),
        Column("FILE", lambda it: it["directory"] or it["file"], wide=True),
    )


@noun(short_help="Models: list, pull, show, delete, and who answers for them.")
def model() -> None:
    """Models: what is on this machine, what is on its way, and what it is called."""


def _catalog_columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("MODEL", lambda it: it["id"]),
        Column("CAN", lambda it: ",".join(it["capabilities"])),
        Column("SIZE", lambda it: session.size(it["size_bytes"]), right=True),
        Column("MEMORY", lambda it: session.size(it["memory_bytes"]), right=True),
        Column("FITS", lambda it: "yes" if it["fits"] else "no"),
        Column("HERE", lambda it: "yes" if it["installed"] else "-"),
        Column("BEST FOR", lambda it: ",".join(it["slots"]) or "-"),
        Column("LICENCE", lambda it: it["license"]),
        Column("WHAT FOR", lambda it: it["purpose"]),
        Column("CTX", lambda it: units.context(it["context"]), right=True, wide=True),
        Column("FROM", lambda it: it["repo"] or "-", wide=True),
    )


@subcommand(model, "hal0ctl model list --catalog", name="list")
@click.option("--catalog", is_flag=True, help="Models worth having instead, and which of them fit this machine.")
@click.option("--task", metavar="TASK", help="Only those that can do this, such as chat or embed.")
@click.option("--fits", is_flag=True, help="With --catalog: only those that fit.")
def list_(session: Session, *, catalog: bool, task: str | None, fits: bool) -> None:
    """The models on this machine, or those worth having."""
    view = session.client(timeout_s=session.timeout or LOOK_S).get("/api/catalog" if catalog else "/api/models")
    items = [it for it in view["items"] if task is None or task in it["capabilities"]]
    if catalog:
        shown = [it for it in items if it["fits"] or not fits]
        session.rows(shown, _catalog_columns(session), name="id")
        session.note(f"{session.size(view['memory_bytes'])} for models on this machine; hal0ctl pull MODEL fetches one")
        return
    session.rows(items, _columns(session), name="id")
    for problem in view["problems"]:
        session.note(f"note: {problem['message']}")


@subcommand(model, "hal0ctl model show qwen3-4b-q4_k_m")
@click.argument("name", metavar="MODEL", type=ModelName())
def show(session: Session, *, name: str) -> None:
    """One model: its files, what it can, who uses it."""
    view = session.client().get(f"/api/models/{quote(name, safe='')}")
    source = view["source"] or {}
    rows = [(column.header.lower(), column.cell(view)) for column in _columns(session)]
    rows += [("mmproj", view["mmproj"] or "-"), ("files", str(view["files"]))]
    rows += [("source", " ".join(filter(None, (source.get("repo"), source.get("file"), source.get("url")))) or "-")]
    session.value(view, "\n".join(f"{label:<14} {text}" for label, text in rows), name=view["id"])


@subcommand(model, "hal0ctl model fit qwen3-8b-q4_k_m --ctx 16384")
@click.argument("name", metavar="MODEL", type=ModelName())
@click.option("--slot", type=SlotName(), help="The slot that would load it; the one for its task unless told.")
@click.option("--ctx", "tokens", type=click.IntRange(min=128), help="Tokens of context; the slot's own unless told.")
def fit(session: Session, *, name: str, slot: str | None, tokens: int | None) -> Exit:
    """Whether a model would fit: one that is here, of the catalog, or OWNER/REPOSITORY[:QUANT]. Exit 6 if not."""
    return _weigh(session, name, slot, tokens)


def _weigh(session: Session, name: str, slot: str | None, tokens: int | None) -> Exit:
    asked = {"model": name, "slot": slot, "context": tokens}
    query = urlencode({key: value for key, value in asked.items() if value is not None})
    view = session.client(timeout_s=session.timeout or LOOK_S).get(f"/api/models/fit?{query}")
    session.value(view, "\n".join(_sum(session, view)), name=view["verdict"])
    return Exit.DONE if view["verdict"] in _FITS else Exit.REFUSED


# What a load makes room for by itself.
_FITS: Final = frozenset({"fits", "soon", "if_unloaded"})


def _sum(session: Session, view: Json) -> Iterator[str]:
    yield f"{view['model']} in {view['slot']}: {view['message']}"
    rows = [(term["name"], session.size(term["bytes"])) for term in view["terms"]]
    rows.append(("needs", session.size(view["need_bytes"])))
    if view["free_bytes"] is not None:
        of = "" if view["total_bytes"] is None else f" of {session.size(view['total_bytes'])}"
        rows.append((f"free of {view['pool']}", f"{session.size(view['free_bytes'])}{of}"))
    width = max(len(label) for label, _ in rows)
    for label, size in rows:
        yield f"  {label:<{width}}  {size:>9}"
    if view["guess"]:
        yield "  its cache is not known: it takes more than this"


def _wanted() -> Callable[[Callable[..., object]], Callable[..., object]]:
    """What both spellings of a pull take."""

    def decorate(f: Callable[..., object]) -> Callable[..., object]:
        for option in (
            follow.no_wait(),
            click.option("--dry-run", is_flag=True, help="Say its size and whether it would fit, and fetch nothing."),
            click.option("--slot", type=SlotName(), help="Load it into this slot once it is here."),
            click.argument("names", metavar="MODEL...", nargs=-1, required=True),
        ):
            f = option(f)
        return f

    return decorate


@subcommand(model, "hal0ctl model pull Qwen/Qwen3-4B-GGUF:Q4_K_M")
@_wanted()
@click.option("--id", "model_id", metavar="ID", help="What it shall be called here.")
@click.option("--sha256", metavar="DIGEST", help="What the first address's file has to be.")
def pull(session: Session, *, model_id: str | None, sha256: str | None, **wanted: Any) -> Exit:
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
    session: Session, asked: Json, *, names: tuple[str, ...], slot: str | None, dry_run: bool, no_wait: bool
) -> Exit:
    if dry_run:
        if len(names) > 1:
            raise click.UsageError("--dry-run looks at one model of the catalog or the hub")
        return _weigh(session, names[0], slot, None)
    body = {"model": names[0], **({"more": names[1:]} if names[1:] else {}), **asked}
    client = session.client(timeout_s=session.timeout or LOOK_S * len(names))

    def begun(job: Json) -> None:
        with suppress(ApiError):  # a small one may be here already
            if licence := client.get(f"/api/pulls/{job['id']}")["license"]:
                session.note(f"{job['target']} comes under its licence {licence}")

    if slot is None:
        return follow.start(session, client, "/api/pulls", body, wait=not no_wait, done=_pulled, begun=begun)
    if no_wait:
        raise click.UsageError("--slot waits for the download: leave out --no-wait")
    client.get(f"/api/slots/{slot}")  # one that is none is told before gigabytes come for it
    model = _brought(session, client, body, begun)
    path, said = f"/api/slots/{slot}/swap", f"{slot} has {model}"
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


@subcommand(model, "hal0ctl model pulls")
@click.option("-w", "--watch", is_flag=True, help="Keep showing changes.")
def pulls(session: Session, *, watch: bool) -> None:
    """Downloads that have not ended, the last one first."""
    client = session.client()

    def show() -> None:
        session.rows(client.get("/api/pulls")["items"], _PULLS, name="id")

    watched(session, client, show, topic="job") if watch else show()


@subcommand(model, "hal0ctl model pause ID")
@click.argument("pull_id", metavar="ID", type=PullId())
def pause(session: Session, *, pull_id: str) -> None:
    """Stop a download; what has come is kept."""
    view = session.client().post(f"/api/pulls/{quote(pull_id, safe='')}/pause")
    session.value(view, f"{view['model']} is paused, {pace_words(view['pace'])} are here", name=pull_id)


@subcommand(model, "hal0ctl model resume ID")
@click.argument("pull_id", metavar="ID", type=PullId())
@follow.no_wait()
def resume(session: Session, *, pull_id: str, no_wait: bool) -> Exit:
    """Go on with a download that was paused or has failed."""
    path = f"/api/pulls/{quote(pull_id, safe='')}/resume"
    return follow.start(session, session.client(), path, {}, wait=not no_wait, done=_pulled)


@subcommand(model, "hal0ctl model cancel ID")
@click.argument("pull_id", metavar="ID", type=PullId())
def cancel(session: Session, *, pull_id: str) -> None:
    """Give up a download; nothing of it stays."""
    view = session.client().delete(f"/api/pulls/{quote(pull_id, safe='')}")
    ended = "done" if view["state"] == "done" else "given up"  # one that was paused stays as its job ended
    session.value(view, f"the download of {view['target']} is {ended}", name=pull_id)


@subcommand(model, "hal0ctl model delete qwen3-4b-q4_k_m -y")
@click.argument("name", metavar="MODEL", type=ModelName())
def delete(session: Session, *, name: str) -> None:
    """Delete a model's files; refused while a slot has it loaded."""
    session.confirm(f"Delete the files of {name}?")
    view = session.client().delete(f"/api/models/{quote(name, safe='')}")
    session.value(view, f"{view['id']} is deleted, {session.size(view['freed_bytes'])} are free", name=view["id"])


@subcommand(model, "hal0ctl model scan")
def scan(session: Session) -> None:
    """Look at the model folders again."""
    view = session.client(timeout_s=session.timeout or LOOK_S).post("/api/models/scan")
    session.value(view, f"{len(view['items'])} models, {len(view['problems'])} files that cannot be used")


@subcommand(model, "hal0ctl model alias qwen3-4b-q4_k_m fast")
@click.argument("name", metavar="MODEL", type=ModelName())
@click.argument("alias", metavar="NAME")
@click.option("--remove", is_flag=True, help="Take the name away instead.")
def alias(session: Session, *, name: str, alias: str, remove: bool) -> None:
    """Give a model one more name."""
    view = session.client().post("/api/models/alias", {"alias": alias, "model": None if remove else name})
    session.value(view, f"{alias} is no name of {name} any more" if remove else f"{alias} is {name}", name=alias)


@subcommand(model, "hal0ctl model bind qwen3-235b --upstream box")
@click.argument("name", metavar="MODEL", type=ModelName())
@click.option("--slot", type=SlotName(), help="The slot that answers for it.")
@click.option("--upstream", type=UpstreamName(), help="The upstream that answers for it.")
@click.option("--name", "called", metavar="ID", help="What the upstream calls it.")
def bind(session: Session, *, name: str, slot: str | None, upstream: str | None, called: str | None) -> None:
    """Say who answers for a model, whatever the rules of dispatch would find."""
    if (slot is None) == (upstream is None):
        raise click.UsageError("give --slot or --upstream")
    body: Row = {"model": name, "slot": slot, "upstream": upstream, "name": called}
    view = session.client().post("/api/models/bind", body)
    session.value(view, f"{name} is answered by {f'slot {slot}' if slot else f'upstream {upstream}'}", name=name)


@subcommand(model, "hal0ctl model unbind qwen3-235b")
@click.argument("name", metavar="MODEL", type=ModelName())
def unbind(session: Session, *, name: str) -> None:
    """Leave it to the rules again who answers for a model."""
    view = session.client().post("/api/models/bind", {"model": name})
    session.value(view, f"the rules say who answers for {name}", name=name)
