"""`hal0ctl model fit`: would a model fit, with the sum, before anything is fetched or loaded."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode

import click

from hal0.cli.exits import Exit
from hal0.cli.names_of import ModelName, SlotName
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.client import Json

# hal0 looks at each place that is named, for half a minute at most, before it answers.
LOOK_S: Final = 60.0


@command("hal0ctl model fit qwen3-8b-q4_k_m --ctx 16384")
@click.argument("name", metavar="MODEL", type=ModelName())
@click.option("--slot", type=SlotName(), help="The slot that would load it; the one for its task unless told.")
@click.option("--ctx", "tokens", type=click.IntRange(min=128), help="Tokens of context; the slot's own unless told.")
@click.option("--parallel", type=click.IntRange(min=1), help="Requests at the same time, which share the context.")
@click.option("--with", "beside", metavar="SLOT,SLOT", help="Slots that are to be loaded besides.")
def fit(
    session: Session, *, name: str, slot: str | None, tokens: int | None, parallel: int | None, beside: str | None
) -> Exit:
    """Whether a model would fit: one that is here, of the catalog, or OWNER/REPOSITORY[:QUANT]. Exit 6 if not."""
    return weigh(session, name, slot=slot, context=tokens, parallel=parallel, **({"with": beside} if beside else {}))


def weigh(session: Session, name: str, **wanted: str | int | None) -> Exit:
    """Print the sum; REFUSED when it does not fit."""
    asked = {"model": name, **wanted}
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
    if (parallel := view["parallel"] or 1) > 1:
        share = view["context"] // parallel
        yield f"  {parallel} requests share the {view['context']} tokens: {share} each when all are long"
    if view["guess"]:
        yield "  its cache is not known: it takes more than this"
