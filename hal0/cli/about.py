"""`hal0ctl version` and `hal0ctl help`: what this is, and the topics that belong to no single command."""

from collections.abc import Callable, Mapping
from typing import Final

import click

from hal0 import __version__, errors
from hal0.cli.exits import MEANINGS
from hal0.cli.names import MODULES
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.client import ClientError
from hal0.vocab import SlotState

VERSION_TIMEOUT_S: Final = 2.0

_STATES: Final = {
    SlotState.OFFLINE: "nothing of the slot runs",
    SlotState.PULLING: "image or model is being fetched",
    SlotState.STARTING: "the container is being created",
    SlotState.WARMING: "the engine loads the model",
    SlotState.READY: "answers requests",
    SlotState.SERVING: "is answering one now",
    SlotState.IDLE: "ready, and quiet for longer than idle_timeout_s",
    SlotState.UNLOADING: "finishes open streams, then stops",
    SlotState.ERROR: "stopped by a failure: hal0ctl slot show NAME",
}

_ENVIRONMENT: Final = {
    "HAL0_URL": "where hal0 is, when --url and --context do not say",
    "HAL0_API_KEY": "the API key, when --api-key-file is not given",
    "HAL0_HOME": "one directory for configuration, state, models and the socket",
    "NO_COLOR": "set to anything: no colours",
    "TERM": "dumb: no colours, no redrawn lines",
}

_FORMATS: Final = {
    "table": "columns, cut to the terminal's width; whole when piped",
    "wide": "the same with every column",
    "json": "the API's own members, times as ISO 8601 in UTC; a list is an array",
    "jsonl": "one JSON object a line",
    "yaml": "the same as YAML",
    "name": "one name a line, for xargs",
}


def _pairs(entries: Mapping[str, str]) -> str:
    width = max(len(key) for key in entries)
    return "\n".join(f"{key:<{width}}  {text}" for key, text in entries.items())


_TOPICS: Final[Mapping[str, Callable[[], str]]] = {
    "exit-codes": lambda: _pairs({str(int(code)): text for code, text in MEANINGS.items()}),
    "formats": lambda: _pairs(_FORMATS),
    "environment": lambda: _pairs(_ENVIRONMENT),
    "states": lambda: _pairs({state.value: text for state, text in _STATES.items()}),
    "errors": lambda: _pairs({code: f"{row.status}  {row.title}. {row.hint}" for code, row in errors.TABLE.items()}),
}


@command("hal0ctl version -o json")
def version(session: Session) -> None:
    """The versions of this command and of the hal0 it reaches."""
    known: dict[str, str | None] = {"hal0ctl": __version__, "hal0": None, "url": None}
    client = session.client(timeout_s=VERSION_TIMEOUT_S)
    try:
        known |= {"hal0": client.get("/api/health")["version"], "url": client.target.url}
        running = f"hal0    {known['hal0']}  ({client.target.described()})"
    except ClientError as e:
        running = f"hal0    {e.message}"
    session.value(known, f"hal0ctl {__version__}\n{running}", name=__version__)


@command("hal0ctl help exit-codes", name="help")
@click.argument("topic", required=False, type=click.Choice([*_TOPICS, *MODULES]), metavar="[TOPIC]")
@click.pass_context
def help_(ctx: click.Context, session: Session, *, topic: str | None) -> None:
    """Help on a command, or on exit-codes, formats, environment, states, errors."""
    if topic is not None and topic in _TOPICS:
        text = _TOPICS[topic]()
    else:
        parent = ctx.find_root()
        found = parent.command.get_command(parent, topic) if topic and isinstance(parent.command, click.Group) else None
        shown = click.Context(found, info_name=topic, parent=parent) if found else parent
        text = shown.get_help()
    session.value({"topic": topic, "text": text}, text, name=topic or "hal0ctl")
