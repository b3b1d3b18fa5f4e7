"""`hal0ctl upstream`: servers elsewhere whose models hal0 offers beside its own."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from hal0.cli import units
from hal0.cli.exits import Exit
from hal0.cli.names_of import PresetName, UpstreamName
from hal0.cli.options import noun, subcommand
from hal0.cli.output import Column
from hal0.cli.session import Session
from hal0.client import ClientError, Json, part

# hal0 waits for a model list for 8 s, behind at most a few others.
ASK_S: Final = 60.0
_MOST_KEY_BYTES: Final = 4096


_OPTIONS: Final = (
    click.option("--base-url", "base_url", metavar="URL", help='Its address, up to and with "/v1".'),
    click.option("--kind", type=click.Choice(["openai", "anthropic", "hal0"]), help="Which API it speaks."),
    click.option("--key-file", metavar="FILE", help="File with the key; it goes into hal0.toml. - reads stdin."),
    click.option("--key-env", metavar="VAR", help="Environment variable of hal0 that holds the key instead."),
    click.option("--prefix", metavar="TEXT", help='Put before its model ids, such as "openrouter/".'),
    click.option("--model", "models", metavar="ID", multiple=True, help="Only this model of it; may be repeated."),
    click.option("--priority", type=click.IntRange(0, 100), help="Higher goes first when several list a model."),
    click.option("--weight", type=click.IntRange(1, 1000), help="Share among upstreams of the same priority."),
)


def _described(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe an upstream, new or not."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _number(key: str) -> Any:
    return lambda row: "-" if row[key] is None else str(row[key])


_COLUMNS: Final = (
    Column("NAME", lambda it: it["name"]),
    Column("STATE", lambda it: it["state"], state=True),
    Column("MODELS", _number("models"), right=True),
    Column("URL", lambda it: it["base_url"]),
    Column("KEY", lambda it: "-" if it["auth"]["style"] == "none" else "yes" if it["auth"]["present"] else "missing"),
    Column("PREFIX", lambda it: it["prefix"] or "-"),
    Column("PRIORITY", _number("priority"), right=True),
    Column("WEIGHT", _number("weight"), right=True, wide=True),
    Column("KIND", lambda it: it["kind"], wide=True),
    Column("REQUESTS", _number("requests"), right=True, wide=True),
    Column("FAILURES", _number("failures"), right=True, wide=True),
    Column("LISTED", lambda it: units.ago(it["listed_at"], time.time()) if it["listed_at"] else "-", wide=True),
    Column("MESSAGE", lambda it: it["message"]),
)
_MODELS: Final = (
    Column("MODEL", lambda it: it["id"]),
    Column("THEIRS", lambda it: it["theirs"], wide=True),
    Column("CTX", lambda it: units.context(it["context_length"]), right=True),
    Column("DOES", lambda it: ", ".join(it["capabilities"]) or "-"),
)


@noun(short_help="Upstreams: list, add, set, test, refresh, models, enable, delete.")
def upstream() -> None:
    """Upstreams: servers elsewhere; what is sent to one leaves this machine."""


@subcommand(upstream, "hal0ctl upstream list", name="list")
def list_(session: Session) -> None:
    """Every upstream, and how it is."""
    session.rows(session.client().get("/api/upstreams")["items"], _COLUMNS)


@subcommand(upstream, "hal0ctl upstream show openrouter")
@click.argument("name", type=UpstreamName())
def show(session: Session, *, name: str) -> None:
    """One upstream: address, key, state, circuit."""
    view = session.client().get(f"/api/upstreams/{part(name)}")
    lines = [f"{column.header.lower():10}{column.cell(view)}" for column in _COLUMNS]
    retry_at = view["circuit"]["retry_at"]
    circuit = view["circuit"]["state"] + (f", next try {units.duration(retry_at - time.time())}" if retry_at else "")
    session.value(view, "\n".join([*lines, f"{'circuit':10}{circuit}"]), name=name)


@subcommand(upstream, "hal0ctl upstream add openrouter --preset openrouter --key-file key.txt")
@click.argument("name")
@click.option("--preset", type=PresetName(), help="A server that hal0 knows: openrouter, openai, ollama, ...")
@_described
def add(session: Session, *, name: str, key_file: str | None, models: tuple[str, ...], **given: Any) -> None:
    """Add an upstream to the configuration."""
    if given["preset"] is None and given["base_url"] is None:
        raise click.UsageError("say where it is: --preset NAME or --base-url URL")
    _one_key(key_file, given["key_env"])
    body: Json = {"name": name, **{key: value for key, value in given.items() if value is not None}}
    if models:
        body["models"] = list(models)
    if key_file is not None:
        body["key"] = _key(key_file)
    view = session.client().post("/api/upstreams", body)
    session.value(view, "", name=name)
    session.note(f"{name} is added ({view['base_url']}). Try it: hal0ctl upstream test {name}")


@subcommand(upstream, "hal0ctl upstream set openrouter --priority 80", name="set")
@click.argument("name", type=UpstreamName())
@_described
@click.option("--all-models", is_flag=True, help="Every model that it lists, from now on.")
def set_(
    session: Session,
    *,
    name: str,
    key_file: str | None,
    key_env: str | None,
    models: tuple[str, ...],
    all_models: bool,
    **given: Any,
) -> None:
    """Change what is said of an upstream; the rest stays. An empty --prefix takes it away."""
    _one_key(key_file, key_env)
    if models and all_models:
        raise click.UsageError("say which models: --model ID or --all-models")
    fields: Json = {key: None if value == "" else value for key, value in given.items() if value is not None}
    if models or all_models:
        fields["models"] = list(models) or None
    client = session.client()
    if key_file is not None or key_env is not None:
        fields["auth"] = _auth(client.get(f"/api/upstreams/{part(name)}")["auth"], key_file, key_env)
    if not fields:
        raise click.UsageError("say what to change, such as --priority 80")
    view = client.request("PATCH", f"/api/upstreams/{part(name)}", fields)
    session.value(view, "", name=name)
    session.note(f"{name} is changed. Try it: hal0ctl upstream test {name}")


@subcommand(upstream, "hal0ctl upstream test openrouter")
@click.argument("name", type=UpstreamName())
def test(session: Session, *, name: str) -> Exit:
    """Ask it for its models; exit 9 when that fails."""
    view = session.client(timeout_s=session.timeout or ASK_S).post(f"/api/upstreams/{part(name)}/test")
    took = f" in {view['latency_ms']:.0f} ms" if view["latency_ms"] is not None else ""
    code = "" if view["ok"] else f"   [{view['code']}]"
    session.value(view, f"{name}: {view['message']}{took}{code}", name=name)
    return Exit.DONE if view["ok"] else Exit.CHECK_FAILED


@subcommand(upstream, "hal0ctl upstream refresh openrouter")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=UpstreamName())
def refresh(session: Session, *, names: tuple[str, ...]) -> Exit:
    """Ask again which models there are: of those named, or of all."""
    client = session.client(timeout_s=session.timeout or ASK_S)
    if not names:
        names = tuple(it["name"] for it in client.get("/api/upstreams")["items"] if it["enabled"])
    views: list[Json] = []
    failed: list[str] = []
    for name in names:
        try:
            views.append(client.post(f"/api/upstreams/{part(name)}/refresh"))
        except ClientError as e:
            if len(names) == 1:
                raise
            failed.append(name)
            session.note(f"error: {name}: {e.message}   [{e.code}]")
    session.rows(views, _COLUMNS)
    if not failed:
        return Exit.DONE
    return Exit.PARTLY if views else Exit.FAILED


@subcommand(upstream, "hal0ctl upstream models openrouter -o name")
@click.argument("name", type=UpstreamName())
def models(session: Session, *, name: str) -> None:
    """The models it offers, by the names to ask hal0 for."""
    session.rows(session.client().get(f"/api/upstreams/{part(name)}/models")["items"], _MODELS, name="id")


@subcommand(upstream, "hal0ctl upstream enable openrouter")
@click.argument("name", type=UpstreamName())
def enable(session: Session, *, name: str) -> None:
    """Let requests go there again."""
    _switch(session, name, on=True)


@subcommand(upstream, "hal0ctl upstream disable openrouter")
@click.argument("name", type=UpstreamName())
def disable(session: Session, *, name: str) -> None:
    """Let no request go there; its table stays."""
    _switch(session, name, on=False)


@subcommand(upstream, "hal0ctl upstream delete openrouter -y")
@click.argument("name", type=UpstreamName())
def delete(session: Session, *, name: str) -> None:
    """Take an upstream out of the configuration, with its key."""
    client = session.client()
    view = client.get(f"/api/upstreams/{part(name)}")
    session.confirm(f"Delete upstream {name} ({view['base_url']})?")
    session.value(client.delete(f"/api/upstreams/{part(name)}"), "", name=name)
    session.note(f"{name} is deleted")


def _switch(session: Session, name: str, *, on: bool) -> None:
    view = session.client().request("PATCH", f"/api/upstreams/{part(name)}", {"enabled": on})
    session.value(view, "", name=name)
    session.note(f"{name} is {'enabled' if on else 'disabled'}")


def _one_key(file: str | None, env: str | None) -> None:
    if file is not None and env is not None:
        raise click.UsageError("the key comes from one place: --key-file or --key-env")


def _auth(now: Json, file: str | None, env: str | None) -> Json:
    """Another key, sent the way in which the present one is: as bearer where there is none."""
    style = "bearer" if now["style"] == "none" else now["style"]
    key = {"env": env} if file is None else {"secret": _key(file)}
    return {"style": style, **({"header": now["header"]} if now["header"] else {}), **key}


def _key(file: str) -> str:
    """A key never stands on a command line, where everybody on the machine can read it."""
    try:
        text = sys.stdin.read(_MOST_KEY_BYTES) if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise click.UsageError(f"cannot read the key from {file}: {e}") from e
    if not (key := text.strip()):
        raise click.UsageError(f"there is no key in {file}")
    return key
