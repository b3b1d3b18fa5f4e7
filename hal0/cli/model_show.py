"""`hal0ctl model show`: one model, its files, who uses it, and which other quantisations there are of it."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import click

from hal0.cli import output, units
from hal0.cli.assigned import value_text
from hal0.cli.model_fit import LOOK_S
from hal0.cli.names_of import ModelName
from hal0.cli.options import command
from hal0.cli.output import Column, Row
from hal0.cli.session import Session
from hal0.client import ApiError, Client, Json, part

_DIGITS: Final = 12  # of a digest, where a line has room for no more; -o json has all


def columns(session: Session) -> tuple[Column, ...]:
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


def defaults_text(view: Row) -> str:
    return ", ".join(f"{key} {value_text(value)}" for key, value in view["defaults"].items())


@command("hal0ctl model show qwen3-4b-q4_k_m")
@click.argument("name", metavar="MODEL", type=ModelName())
@click.option("--ctx", "tokens", type=click.IntRange(min=128), help="Tokens of context to weigh them with.")
def show(session: Session, *, name: str, tokens: int | None) -> None:
    """One model: its files, what it can, who uses it, and the quantisations that there are of it.

    It is one that is here, of the catalog, or OWNER/REPOSITORY.
    """
    client = session.client(timeout_s=session.timeout or LOOK_S)
    view = _here(client, name)
    quants = None
    if view is None or (view["source"] or {}).get("repo"):
        query = urlencode({"model": name, **({"context": tokens} if tokens else {})})
        try:
            quants = client.get(f"/api/catalog/quants?{query}")
        except ApiError as e:
            if view is None:
                raise
            session.note(f"note: its other quantisations are not shown: {e.message}")
    text = "\n\n".join([*([_text(session, view)] if view else []), *([_table(session, quants)] if quants else [])])
    session.value({**(view or {}), "quants": quants}, text, name=name if view is None else view["id"])


def _here(client: Client, name: str) -> Json | None:
    """None for one that only others have."""
    try:
        return client.get(f"/api/models/{part(name)}")
    except ApiError as e:
        if e.code == "model.not_downloaded" or "/" in name:
            return None
        raise


def _text(session: Session, view: Json) -> str:
    source = view["source"] or {}
    rows = [(column.header.lower(), column.cell(view)) for column in columns(session)]
    rows += [("mmproj", view["mmproj"] or "-"), ("defaults", defaults_text(view) or "-")]
    rows += [("source", " ".join(source[it] for it in ("repo", "file", "url", "path") if source.get(it)) or "-")]
    rows += [("file" if not number else "", _part(session, part)) for number, part in enumerate(view["parts"])]
    return "\n".join(f"{label:<14} {text}" for label, text in rows)


def _part(session: Session, part: Json) -> str:
    size = "gone" if part["size_bytes"] is None else session.size(part["size_bytes"])
    return f"{part['file']}  {size}" + (f"  sha256 {part['sha256']}" if part["sha256"] else "")


def _table(session: Session, quants: Json) -> str:
    if not quants["items"]:
        return f"{quants['repo']} has no GGUF files to choose among"
    told = f"{quants['repo']}, in {quants['slot']} with {quants['context']} tokens of context:"
    rows = output.table(quants["items"], _quant_columns(session), width=output.terminal_width())
    unsure = "\nits cache is not known: each takes more than this" if quants["guess"] else ""
    return f"{told}\n{rows.rstrip()}{unsure}"


def _quant_columns(session: Session) -> Sequence[Column]:
    return (
        Column("QUANT", lambda it: it["quantisation"] or "-"),
        Column("SIZE", lambda it: session.size(it["size_bytes"]), right=True),
        Column("MEMORY", lambda it: session.size(it["need_bytes"]), right=True),
        Column("FITS", lambda it: "here" if it["installed"] else it["message"] or "-"),
        Column("FILES", lambda it: str(len(it["files"])), right=True),
        Column("SHA256", _digest),
        Column("MODEL", lambda it: it["model"]),
    )


def _digest(it: Row) -> str:
    found: Any = it["digests"].get(it["files"][0])
    return found[:_DIGITS] if found else "-"
