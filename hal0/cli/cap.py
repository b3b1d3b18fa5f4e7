"""`hal0ctl cap`: capability cards, for who does not think in slots: shown, turned on and off, tried."""

from collections.abc import Iterator
from typing import Final

import click

from hal0.cli import follow, units
from hal0.cli.exits import Exit
from hal0.cli.names_of import CardName, ModelName
from hal0.cli.options import noun, subcommand
from hal0.cli.output import GAP, Column, Row
from hal0.cli.session import Session
from hal0.cli.slots import rate
from hal0.client import ApiError, Client, Json, part
from hal0.vocab import Device, ProviderName

_TRY_S: Final = 120.0  # as hal0's own: a cold load of a mid-sized model
_LOOK_S: Final = 30.0  # podman is asked about every image


def _note(child: Row) -> str:
    if child["drift"]:
        return "; ".join(f"{it['key']}: {it['card']} is configured, {it['slot']} is there" for it in child["drift"])
    return str(child["message"])


def _columns(session: Session) -> tuple[Column, ...]:
    return (
        Column("CARD", lambda it: it["card"]),
        Column("CHILD", lambda it: it["name"]),
        Column("ON", lambda it: "yes" if it["enabled"] else "no"),
        Column("STATE", lambda it: it["state"], state=True),
        Column("MODEL", lambda it: it["model"] or "-"),
        Column("DEVICE", lambda it: it["device"] or "-"),
        Column("SLOT", lambda it: it["slot"]),
        Column(
            "MEM", lambda it: session.size(it["memory_bytes"]) if it["memory_bytes"] else "-", right=True, wide=True
        ),
        Column("TOK/S", rate, right=True, wide=True),
        Column("ACTIVE", lambda it: str(it["in_flight"]), right=True, wide=True),
        Column("PROVIDER", lambda it: it["provider"] or "-", wide=True),
        Column("PATH", lambda it: it["path"], wide=True),
        Column("NOTE", _note),
    )


@noun(short_help="Capability cards: list, show, plan, enable, disable, test.")
def cap() -> None:
    """Cards: embeddings and reranking, voice, images, the NPU."""


@subcommand(cap, "hal0ctl cap list", name="list")
def list_(session: Session) -> None:
    """Every card of this machine, row by row."""
    view = _client(session).get("/api/capabilities")
    rows = [_row(card["name"], child) for card in view["items"] for child in card["children"]]
    session.rows(rows, _columns(session), name="id")
    if not session.machine:
        for hidden in view["hidden"]:
            session.note(f"{hidden['name']} is not shown: {hidden['reason']}")


@subcommand(cap, "hal0ctl cap show embed")
@click.argument("card", type=CardName())
def show(session: Session, *, card: str) -> None:
    """One card: its rows, what each may run on, its models, and where slot and card differ."""
    view = _client(session).get(f"/api/capabilities/{part(card)}")
    session.value(view, "\n".join(_details(session, view)), name=card)


_CHILD: Final = click.argument("child", required=False)
_MODEL: Final = click.option("--model", type=ModelName(), help="The model to load.")
_PROVIDER: Final = click.option("--provider", type=click.Choice([p.value for p in ProviderName]), help="The engine.")
_CONTEXT: Final = click.option("--ctx", "context_size", type=int, metavar="TOKENS", help="How long its context is.")
_DEVICE: Final = click.option("--device", type=click.Choice([d.value for d in Device]), help="Where it runs.")


@subcommand(cap, "hal0ctl cap plan embed rerank")
@click.argument("card", type=CardName())
@_CHILD
@_MODEL
@_PROVIDER
@_DEVICE
@_CONTEXT
def plan(session: Session, *, card: str, child: str | None, **asked: str | int | None) -> None:
    """Say what enabling would do, and do nothing."""
    client = _client(session)
    body = _given(asked)
    plans = [
        client.post(f"/api/capabilities/{part(card)}/{part(name)}/plan", body)
        for name in _children(client, card, child)
    ]
    session.value(plans if len(plans) != 1 else plans[0], "\n".join(step for it in plans for step in it["steps"]))


@subcommand(cap, "hal0ctl cap enable embed rerank")
@click.argument("card", type=CardName())
@_CHILD
@_MODEL
@_PROVIDER
@_DEVICE
@_CONTEXT
@follow.no_wait()
def enable(session: Session, *, card: str, child: str | None, no_wait: bool, **asked: str | int | None) -> Exit:
    """Turn a card on, or one row of it; what fails is undone."""
    return _switch(session, card, child, {"enabled": True, **_given(asked)}, wait=not no_wait)


@subcommand(cap, "hal0ctl cap set embed embed --model nomic-embed-text-v1.5-q8_0", name="set")
@click.argument("card", type=CardName())
@click.argument("child")
@_MODEL
@_PROVIDER
@_DEVICE
@_CONTEXT
@follow.no_wait()
def set_(session: Session, *, card: str, child: str, no_wait: bool, **asked: str | int | None) -> Exit:
    """Give a row another model, engine or device, and turn it on with it."""
    given = _given(asked)
    if not given:
        raise click.UsageError("say what to change: --model, --provider, --device or --ctx")
    return _switch(session, card, child, {"enabled": True, **given}, wait=not no_wait)


@subcommand(cap, "hal0ctl cap disable voice tts")
@click.argument("card", type=CardName())
@_CHILD
@follow.no_wait()
def disable(session: Session, *, card: str, child: str | None, no_wait: bool) -> Exit:
    """Unload a card, or one row of it, and let no request load it again."""
    return _switch(session, card, child, {"enabled": False}, wait=not no_wait)


@subcommand(cap, "hal0ctl cap test voice")
@click.argument("card", type=CardName())
@_CHILD
def test(session: Session, *, card: str, child: str | None) -> Exit:
    """Send one small real request through hal0; exit 1 when it fails."""
    timeout_s = session.timeout or _TRY_S
    client = session.client(timeout_s=timeout_s + _LOOK_S)
    found = []
    for name in _children(client, card, child):
        view = client.post(f"/api/capabilities/{part(card)}/{part(name)}/test?timeout_s={timeout_s:g}")
        found.append({"card": card, "name": name, **view})
    session.value(found if len(found) != 1 else found[0], "\n".join(map(_tried, found)))
    return Exit.DONE if all(it["ok"] for it in found) else Exit.FAILED


def _client(session: Session) -> Client:
    return session.client(timeout_s=session.timeout or _LOOK_S)


def _given(asked: dict[str, str | int | None]) -> Json:
    return {key: value for key, value in asked.items() if value is not None}


def _children(client: Client, card: str, child: str | None) -> list[str]:
    """The one that is named, or every row of the card that has a switch."""
    if child is not None:
        return [child]
    return [it["name"] for it in client.get(f"/api/capabilities/{part(card)}")["children"] if it["switch"]]


def _switch(session: Session, card: str, child: str | None, body: Json, *, wait: bool) -> Exit:
    """One after the other; what fails does not keep the rest from being tried."""
    client = _client(session)
    names, failed = _children(client, card, child), 0
    asked = {key: value for key, value in body.items() if key != "enabled"}
    verb = "on" if body["enabled"] else "off"
    for name in names:
        path = f"/api/capabilities/{part(card)}/{part(name)}"
        try:
            for step in client.post(f"{path}/plan", asked)["steps"] if body["enabled"] else ():
                session.note(f"{card}/{name}: {step}")
            follow.start(session, client, path, body, wait=wait, done=lambda job: f"{job['target']} is {verb}")
        except ApiError as e:
            if len(names) == 1:
                raise
            failed += 1
            session.note(f"error: {card}/{name}: {e.message}   [{e.code}]")
    if not failed:
        return Exit.DONE
    return Exit.PARTLY if failed < len(names) else Exit.FAILED


def _row(card: str, child: Json) -> Json:
    return {"card": card, "id": f"{card}/{child['name']}", **child}


def _details(session: Session, card: Json) -> Iterator[str]:
    for child in card["children"]:
        on = "on" if child["enabled"] else "off"
        yield f"{card['name']}/{child['name']}: {on}, slot {child['slot']} is {child['state']}, {child['message']}"
        yield f"{GAP}asked at {child['path']}"
        if child["model"]:
            yield f"{GAP}model    {child['model']}"
        for choice in child["choices"]:
            why = "" if choice["ready"] else f": {choice['reason']}"
            yield f"{GAP}device   {choice['device']} ({choice['provider']}){why}"
        for model in child["models"]:
            yield f"{GAP}could be {model['model']} ({session.size(model['size_bytes'])})"
        for it in child["drift"]:
            yield f"{GAP}differs  {it['key']}: {it['card']} is configured, the slot has {it['slot']}"
            if it["key"] == "model":
                row = f"{card['name']} {child['name']}"
                yield f"{GAP * 2}use the card's: hal0ctl cap set {row} --model {it['card']}"
                yield f"{GAP * 2}use the slot's: hal0ctl cap set {row} --model {it['slot']}"


def _tried(it: Json) -> str:
    code = "" if it["ok"] else f"   [{it['code']}]"
    took = units.duration(it["took_ms"] / 1000) if it["took_ms"] >= 1000 else f"{it['took_ms']:.0f} ms"
    return f"{'ok  ' if it['ok'] else 'fail'}  {it['card']}/{it['name']}: {it['message']} in {took}{code}"
