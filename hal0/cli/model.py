"""`hal0ctl model`: the models on this machine and those worth having, their names, and who answers for them."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import click

from hal0.cli import model_add, model_disk, model_fit, model_pull, model_show, units
from hal0.cli.assigned import assigned
from hal0.cli.model_fit import LOOK_S
from hal0.cli.model_show import columns, defaults_text
from hal0.cli.names_of import ModelName, SlotName, UpstreamName
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import part


@noun(short_help="Models: list, pull, show, delete, and who answers for them.")
def model() -> None:
    """Models: what is on this machine, what is on its way, and what it is called."""


for _word, _leaf in {
    "show": model_show.show,
    "fit": model_fit.fit,
    "pull": model_pull.pull_of_model,
    "pulls": model_pull.pulls,
    "pause": model_pull.pause,
    "resume": model_pull.resume,
    "cancel": model_pull.cancel,
    "add": model_add.add,
    "delete": model_disk.delete,
    "scan": model_disk.scan,
    "verify": model_disk.verify,
    "du": model_disk.du,
    "prune": model_disk.prune,
}.items():
    model.add_command(_leaf, _word)


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


_DEFAULTS: Final = ("context_size", "parallel", "extra_args", "request_defaults")
_MOST_PROBLEMS: Final = 10  # a folder of other programs may be full of them
_ORDERS: Final[dict[str, Callable[[Row], Any]]] = {
    "name": lambda it: it["id"],
    "size": lambda it: -it["size_bytes"],
}


@subcommand(model, "hal0ctl model list --catalog", name="list")
@click.option("--catalog/--installed", help="Models worth having instead, and which of them fit this machine.")
@click.option("--task", metavar="TASK", help="Only those that can do this, such as chat or embed.")
@click.option("--fits", is_flag=True, help="With --catalog: only those that fit.")
@click.option("--sort", type=click.Choice(sorted(_ORDERS)), help="By name, or the largest first.")
def list_(session: Session, *, catalog: bool, task: str | None, fits: bool, sort: str | None) -> None:
    """The models on this machine, or those worth having."""
    view = session.client(timeout_s=session.timeout or LOOK_S).get("/api/catalog" if catalog else "/api/models")
    items = [it for it in view["items"] if task is None or task in it["capabilities"]]
    items = items if sort is None else sorted(items, key=_ORDERS[sort])
    if catalog:
        shown = [it for it in items if it["fits"] or not fits]
        session.rows(shown, _catalog_columns(session), name="id")
        session.note(f"{session.size(view['memory_bytes'])} for models on this machine; hal0ctl pull MODEL fetches one")
        return
    session.rows(items, columns(session), name="id")
    shown, more = view["problems"][:_MOST_PROBLEMS], len(view["problems"]) - _MOST_PROBLEMS
    for problem in shown:
        session.note(f"note: {problem['message']}")
    if more > 0:
        session.note(f"note: {more} more files cannot be used")


def _found_columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("MODEL", lambda it: it["name"]),
        Column("FITS", _verdict),
        Column("MEMORY", lambda it: _about(it) + session.size(it["memory_bytes"]), right=True),
        Column("LICENCE", lambda it: (it["license"] or "-") + (", wants consent" if it["gated"] else "")),
        Column("FETCHED", lambda it: "catalog" if it["curated"] else str(it["downloads"] or "-"), right=True),
        Column("WHAT FOR", lambda it: it["purpose"] or "-"),
        Column("CTX", lambda it: units.context(it["context_length"]), right=True, wide=True),
    )


def _about(it: Row) -> str:
    return "~" if not it["curated"] and it["memory_bytes"] is not None else ""


def _verdict(it: Row) -> str:
    return "here" if it["installed"] else "-" if it["fits"] is None else _about(it) + ("yes" if it["fits"] else "no")


@subcommand(model, "hal0ctl model search qwen3")
@click.argument("text", metavar="WORD...", nargs=-1, required=True)
def search(session: Session, *, text: tuple[str, ...]) -> None:
    """Find models in the catalog and on Hugging Face; ~ is a guess from the parameters: model fit asks."""
    query = urlencode({"q": " ".join(text)})
    view = session.client(timeout_s=session.timeout or LOOK_S).get(f"/api/catalog/search?{query}")
    session.rows(view["items"], _found_columns(session), name="name")
    if view["problem"]:
        session.note(f"note: only the catalog is shown: {view['problem']}")


@subcommand(model, "hal0ctl model set qwen3-4b-q4_k_m context_size=16384", name="set")
@click.argument("name", metavar="MODEL", type=ModelName())
@click.argument("fields", metavar="KEY=VALUE...", nargs=-1, required=True)
def set_(session: Session, *, name: str, fields: tuple[str, ...]) -> None:
    """What a model is started and asked with where neither its slot nor the slot's profile says it.

    KEY= takes one away. KEY is context_size, parallel, extra_args or request_defaults.
    """
    body: Row = {"defaults": assigned(fields, _DEFAULTS)}
    view = session.client().request("PATCH", f"/api/models/{part(name)}", body)
    session.value(view, "", name=view["id"])
    session.note(f"{view['id']}: {defaults_text(view) or 'nothing is said any more'}")
    if view["slots"] and body["defaults"].keys() - {"request_defaults"}:
        session.note(f"a slot that runs it starts by them the next time: hal0ctl slot restart {view['slots'][0]}")


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
