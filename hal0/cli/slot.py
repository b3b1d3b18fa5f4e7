"""`hal0ctl slot`: what one slot is and does, and the verbs that change it."""

from typing import Any, Final

import click

from hal0.cli import follow
from hal0.cli.exits import Exit, for_error
from hal0.cli.logs import log_options, show_logs
from hal0.cli.names_of import ModelName, SlotName
from hal0.cli.options import noun, subcommand
from hal0.cli.session import Session
from hal0.cli.slots import COLUMNS, ROUTABLE, by_name, details, start_text
from hal0.cli.watch import watched
from hal0.client import ApiError, Client, ClientError, Json, part
from hal0.vocab import Device, ProviderName

# hal0 answers when the slot is gone; another load may have begun since it was unloaded.
DELETE_S: Final = 240.0


@noun(short_help="Slots: list, show, create, load, unload, swap, pin, delete.")
def slot() -> None:
    """Slots: the containers that answer requests."""


@subcommand(slot, "hal0ctl slot list --state error -o name", name="list")
@click.option("--state", help="Only slots in this state.")
@click.option("-w", "--watch", is_flag=True, help="Keep showing changes.")
def list_(session: Session, *, state: str | None, watch: bool) -> None:
    """Every slot, loaded or not."""
    client = session.client()

    def show() -> None:
        items = by_name(client.get("/api/slots")["items"])
        session.rows([s for s in items if state in (None, s["state"])], COLUMNS)

    watched(session, client, show, topic="slot") if watch else show()


@subcommand(slot, "hal0ctl slot show primary")
@click.argument("name", type=SlotName())
def show(session: Session, *, name: str) -> None:
    """State, model, engine, containers, and why it failed if it did."""
    view = session.client().get(f"/api/slots/{part(name)}")
    session.value(view, details(view), name=name)


@subcommand(slot, "hal0ctl slot create coder --model qwen3-4b-q4_k_m --load")
@click.argument("name")
@click.option("--model", type=ModelName(), required=True, help="What it serves.")
@click.option("--provider", type=click.Choice([p.value for p in ProviderName]), help="The engine (default: llama.cpp).")
@click.option("--device", type=click.Choice([d.value for d in Device]), help="Where it runs (default: auto).")
@click.option("--ctx", "context_size", type=int, metavar="TOKENS", help="Context length.")
@click.option("--parallel", type=int, metavar="N", help="Requests at the same time.")
@click.option(
    "--idle-timeout", "idle_timeout_s", type=float, metavar="SEC", help="Quiet for so long is idle; 0: never."
)
@click.option("--port", type=int, help="A port of its own on loopback.")
@click.option("--arg", "arguments", metavar="K=V", multiple=True, help="An argument of the engine: flash-attn=on.")
@click.option("--load", "load_it", is_flag=True, help="Load it at once.")
@click.option("--dry-run", is_flag=True, help="Check, and print the file that would be written.")
@follow.no_wait()
def create(
    session: Session,
    *,
    name: str,
    arguments: tuple[str, ...],
    load_it: bool,
    dry_run: bool,
    no_wait: bool,
    **given: Any,
) -> Exit:
    """Make a slot of your own, kept in slots.d."""
    client = session.client()
    body = {"name": name, **{key: value for key, value in given.items() if value is not None}}
    if arguments:
        body["extra_args"] = [word for argument in arguments for word in _engine_words(argument)]
    if dry_run:
        draft = client.post("/api/slots/draft", body)
        session.note(f"would write {draft['file']}")
        session.value(draft, draft["text"])
        return Exit.DONE
    view = client.post("/api/slots", body)
    if load_it:
        return _verb(session, name, "load", {}, no_wait)
    session.value(view, "", name=name)
    session.note(f"{name} is made. Load it: hal0ctl slot load {name}")
    return Exit.DONE


@subcommand(slot, "hal0ctl slot delete coder -y")
@click.argument("name", type=SlotName())
def delete(session: Session, *, name: str) -> None:
    """Unload a slot of your own, and delete its state and its configuration."""
    client = session.client()
    view = client.get(f"/api/slots/{part(name)}")
    if not view["builtin"]:
        session.confirm(f"Delete slot {name} ({view['state']}, {view['model'] or 'no model'})?")
    if not (view["builtin"] or view["pinned"]):  # those are refused by hal0 itself, in its words
        follow.finished(session, client, client.post(f"/api/slots/{part(name)}/unload"))
    session.value(client.request("DELETE", f"/api/slots/{part(name)}", timeout_s=DELETE_S), "", name=name)
    session.note(f"{name} is deleted")


@subcommand(slot, "hal0ctl slot load primary")
@click.argument("name", type=SlotName())
@click.option("--model", type=ModelName(), help="Load this model instead of the slot's own.")
@follow.no_wait()
def load(session: Session, *, name: str, model: str | None, no_wait: bool) -> Exit:
    """Load a slot and wait until it answers."""
    return _verb(session, name, "load", {"model": model} if model else {}, no_wait)


@subcommand(slot, "hal0ctl slot unload primary --drain 10")
@click.argument("names", metavar="NAME...", nargs=-1, type=SlotName())
@click.option("--all", "every", is_flag=True, help="Every loaded slot.")
@click.option("--drain", type=click.FloatRange(min=0), metavar="SEC", help="Time that open streams get to finish.")
@follow.no_wait()
def unload(session: Session, *, names: tuple[str, ...], every: bool, drain: float | None, no_wait: bool) -> Exit:
    """Finish open streams, then stop the slot's container."""
    if every == bool(names):
        raise click.UsageError("name the slots to unload, or give --all")
    if every:
        items = session.client().get("/api/slots")["items"]
        names = tuple(s["name"] for s in by_name(items) if s["state"] != "offline")
    body = {"drain_s": drain} if drain is not None else {}
    failures: list[ClientError] = []
    for name in names:
        try:
            _verb(session, name, "unload", body, no_wait)
        except ClientError as e:
            if len(names) == 1:
                raise
            failures.append(e)
            session.note(f"error: {name}: {e.message}   [{e.code}]")
    if not failures:
        return Exit.DONE
    return Exit.PARTLY if len(failures) < len(names) else for_error(failures[0])


@subcommand(slot, "hal0ctl slot restart primary")
@click.argument("name", type=SlotName())
@follow.no_wait()
def restart(session: Session, *, name: str, no_wait: bool) -> Exit:
    """Unload, then load again with what the configuration says now."""
    return _verb(session, name, "restart", {}, no_wait)


@subcommand(slot, "hal0ctl slot swap primary qwen3-30b-a3b-instruct-2507-q4_k_m")
@click.argument("name", type=SlotName())
@click.argument("model", required=False, type=ModelName())
@click.option("--model", "model_option", type=ModelName(), help="The same, as an option.")
@follow.no_wait()
def swap(session: Session, *, name: str, model: str | None, model_option: str | None, no_wait: bool) -> Exit:
    """Give a slot another model; the old one comes back if the new one fails."""
    chosen = model or model_option
    if chosen is None or (model and model_option and model != model_option):
        raise click.UsageError("name one model: hal0ctl slot swap NAME MODEL")
    return _verb(session, name, "swap", {"model": chosen}, no_wait)


@subcommand(slot, "hal0ctl slot reset primary")
@click.argument("name", type=SlotName())
@follow.no_wait()
def reset(session: Session, *, name: str, no_wait: bool) -> Exit:
    """Forget a failure, so that the slot may be tried again."""
    return _verb(session, name, "reset", {}, no_wait)


@subcommand(slot, "hal0ctl slot pin primary")
@click.argument("name", type=SlotName())
def pin(session: Session, *, name: str) -> None:
    """Never unload a slot by itself, neither to make room nor for idleness."""
    session.value(session.client().post(f"/api/slots/{part(name)}/pin"), f"{name} is pinned", name=name)


@subcommand(slot, "hal0ctl slot unpin primary")
@click.argument("name", type=SlotName())
def unpin(session: Session, *, name: str) -> None:
    """Let a slot make room again when memory is short."""
    session.value(session.client().post(f"/api/slots/{part(name)}/unpin"), f"{name} is not pinned", name=name)


@subcommand(slot, "hal0ctl slot wait primary --for ready --timeout 60")
@click.argument("name", type=SlotName())
@click.option("--for", "goal", type=click.Choice(list(follow.WAITS)), default="ready", help="The state to wait for.")
def wait(session: Session, *, name: str, goal: str) -> None:
    """Wait for a state; exit 7 after --timeout."""
    view = follow.slot_in(session, session.client(), name, goal)
    session.value(view, "", name=name)


@subcommand(slot, "hal0ctl slot is-ready primary && echo yes", name="is-ready")
@click.argument("name", type=SlotName())
def is_ready(session: Session, *, name: str) -> Exit:
    """Say nothing; exit 0 when the slot can answer, 9 when not."""
    ready = session.client().get(f"/api/slots/{part(name)}")["state"] in ROUTABLE
    if session.machine:
        session.value({"name": name, "ready": ready}, "")
    return Exit.DONE if ready else Exit.CHECK_FAILED


@subcommand(slot, "hal0ctl slot logs primary -f")
@click.argument("name", type=SlotName())
@log_options
def logs(session: Session, *, name: str, **wanted: Any) -> None:
    """What the slot's engine wrote."""
    show_logs(session, session.client(), [name], **wanted)


@subcommand(slot, "hal0ctl slot resolved primary")
@click.argument("name", type=SlotName())
def resolved(session: Session, *, name: str) -> None:
    """How the slot is started, value by value, and who said so."""
    view = session.client().get(f"/api/slots/{part(name)}/resolved")
    session.value(view, start_text(view), name=name)


@subcommand(slot, "hal0ctl slot metrics primary")
@click.argument("name", type=SlotName())
def metrics(session: Session, *, name: str) -> None:
    """What a slot does now and has done since hal0 started, and what its engine says of itself."""
    view = session.client().get(f"/api/slots/{part(name)}/metrics")
    own = [("in flight", view["in_flight"]), ("queued", view["queued"])]
    own += [(f"answered {status}", count) for status, count in sorted(view["requests"].items())]
    own += [("prompt tokens", view["prompt_tokens"]), ("answer tokens", view["completion_tokens"])]
    own += [(key.replace("_", " "), value) for key, value in (view["live"] or {}).items() if value is not None]
    rows = [*own, *view["engine"].items()]
    session.value(view, "\n".join(f"{key:<40} {value:g}" for key, value in rows), name=name)


@subcommand(slot, "hal0ctl slot failure img")
@click.argument("name", type=SlotName())
def failure(session: Session, *, name: str) -> None:
    """Why the slot failed last, with the engine's last lines."""
    view = session.client().get(f"/api/slots/{part(name)}/failure")
    lines = [f"{view['message']}   [{view['code']}]", *([view["evidence"]] if view["evidence"] else [])]
    lines += [f"{'>' if line.strip() == view['line'] else ' '} {line}" for line in view["log_tail"]]
    session.value(view, "\n".join(lines))


def _engine_words(argument: str) -> list[str]:
    """`flash-attn=on` and `--flash-attn=on` are `--flash-attn on`; without a value it is a flag."""
    key, _, value = argument.partition("=")
    if not key.strip("-"):
        raise click.UsageError(f"--arg {argument!r}: write NAME=VALUE or NAME")
    return [key if key.startswith("-") else f"--{key}", *([value] if value else [])]


def _verb(session: Session, name: str, verb: str, body: Json, no_wait: bool) -> Exit:
    client = session.client()

    def outcome(job: Json) -> str:
        try:
            view = client.get(f"/api/slots/{part(job['target'])}")
        except ApiError:
            return f"{name}: done"  # removed meanwhile
        model = f" with {view['model']}" if view["model"] and view["state"] in ROUTABLE else ""
        return f"{name} is {view['state']}{model}"

    if verb in ("load", "swap", "restart"):  # what is offline is loaded by a restart, too
        _announce(session, client, name, body.get("model"))
    return follow.start(session, client, f"/api/slots/{part(name)}/{verb}", body, wait=not no_wait, done=outcome)


def _announce(session: Session, client: Client, name: str, model: str | None) -> None:
    """Under which licence a model comes that is not here: before any of it does."""
    try:
        model = model or client.get(f"/api/slots/{part(name)}")["model"]
        if model is not None:
            client.get(f"/api/models/{part(model)}")
    except ApiError as e:  # what else is wrong, the verb itself says
        if licence := e.details.get("license"):
            session.note(f"{e.details['model']} is fetched first{_of(session, e.details)}, under its licence {licence}")


def _of(session: Session, details: Json) -> str:
    return "" if details["size_bytes"] is None else f" ({session.size(details['size_bytes'])})"
