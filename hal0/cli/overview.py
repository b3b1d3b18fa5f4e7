"""`hal0ctl status` and `hal0ctl ps`: the machine and what is loaded, at a glance."""

import time

import click

from hal0.cli import units
from hal0.cli.exits import Exit
from hal0.cli.options import command
from hal0.cli.output import paint
from hal0.cli.session import Session
from hal0.cli.slots import COLUMNS, LOADED, by_name
from hal0.cli.watch import watched
from hal0.client import Client, Json


@command("hal0ctl ps -a")
@click.option("-a", "--all", "show_all", is_flag=True, help="Also slots that are not loaded.")
@click.option("-w", "--watch", is_flag=True, help="Keep showing changes.")
def ps(session: Session, *, show_all: bool, watch: bool) -> None:
    """Loaded slots: state, model, device and what they are doing."""
    client = session.client()

    def show() -> None:
        items = by_name(client.get("/api/slots")["items"])
        session.rows([s for s in items if show_all or s["state"] in LOADED], COLUMNS)
        if not session.machine:
            session.note(_footer(session, client, items))

    watched(session, client, show, topic="slot") if watch else show()


def _footer(session: Session, client: Client, items: list[Json]) -> str:
    status = client.get("/api/status")
    total, free = status["memory_total_bytes"], status["memory_available_bytes"]
    line = f"Memory {session.size(total - free)} of {session.size(total)}, {session.size(free)} free."
    failed = [s["name"] for s in items if s["state"] == "error"]
    if failed:
        count = "1 slot needs" if len(failed) == 1 else f"{len(failed)} slots need"
        line += f"  {count} attention: hal0ctl slot show {failed[0]}"
    return line


@command("hal0ctl status --exit-code")
@click.option("-w", "--watch", is_flag=True, help="Keep showing changes.")
@click.option("--exit-code", is_flag=True, help="Exit 9 when something needs attention.")
def status(session: Session, *, watch: bool, exit_code: bool) -> int:
    """The machine, the version, totals, and what needs attention."""
    client = session.client()
    view: Json = {}

    def show() -> None:
        view.update(client.get("/api/status"))
        session.value(view, _status_text(session, view, client.target.url))

    watched(session, client, show, topic="slot") if watch else show()
    return Exit.CHECK_FAILED if exit_code and view["attention"] else Exit.DONE


def _gpu(gpu: Json) -> str:
    """Who has a GPU that images and language models share, and what happens next."""
    held = " (pinned)" if gpu["pinned"] else ""
    left = f" for {units.duration(gpu['until'] - time.time())} without new ones" if gpu["until"] else ""
    models = ", ".join(gpu["comes_back"]) or "nobody"
    images = gpu["images"]
    return f"{gpu['mode']}: {images}{held} has it{left}; {models} comes back then (hal0ctl slot unload {images})"


def _status_text(session: Session, view: Json, reached_at: str) -> str:
    total, free = view["memory_total_bytes"], view["memory_available_bytes"]
    counted = view["slots"].items()
    states = ", ".join(f"{n} {paint(state, state) if session.colour else state}" for state, n in counted if n)
    lines = [
        f"hal0      {view['version']}, up {units.duration(view['uptime_s'])}, pid {view['pid']}",
        f"instance  {view['instance']}",
        f"address   {view['url']}  (asked at {reached_at})",
        f"slots     {states or 'none'}",
        f"requests  {view['in_flight']} in flight",
        f"memory    {session.size(total - free)} of {session.size(total)}, {session.size(free)} free",
        f"config    {view['config_file']}",
        f"state     {view['state_dir']}",
    ]
    lines += [f"gpu       {_gpu(gpu)}" for gpu in view["gpus"] if gpu["mode"] != "llm"]
    lines += [f"attention {line}" for line in view["attention"]]
    return "\n".join(lines)
