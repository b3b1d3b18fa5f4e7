"""`hal0ctl hw`: what this machine has, what slots can use of it, what it does now, and what would help."""

from collections.abc import Iterator
from typing import Any, Final

import click

from hal0.cli import output
from hal0.cli.options import noun, subcommand
from hal0.cli.output import GAP, Column
from hal0.cli.session import Session
from hal0.cli.watch import watched
from hal0.client import Client, Json

_PROBE_S: Final = 30.0  # NVIDIA's program may take seconds to wake a card
# What says whose machine it is: nobody needs it to help.
_PRIVATE: Final = ("hostname", "product")


@noun(short_help="Hardware: show, probe, watch, backends, report.")
def hw() -> None:
    """Hardware: processor, memory, GPUs, NPU, disks, and what slots can use."""


@subcommand(hw, "hal0ctl hw show")
def show(session: Session) -> None:
    """The machine, and what would make more of it."""
    view = session.client(timeout_s=session.timeout or _PROBE_S).get("/api/hardware")
    session.value(view, _text(session, view))


@subcommand(hw, "hal0ctl hw probe")
def probe(session: Session) -> None:
    """Look again, and say what has changed since the last probe."""
    view = session.client(timeout_s=session.timeout or _PROBE_S).post("/api/hardware/probe")
    lines = [f"{it['key']}: {it['old']} -> {it['new']}" for it in view["changes"]] or ["nothing has changed"]
    session.value(view, "\n".join(lines))


@subcommand(hw, "hal0ctl hw watch --interval 2")
@click.option("--interval", type=click.FloatRange(min=0.5), default=2.0, metavar="SEC", help="Seconds between looks.")
@click.option("--once", is_flag=True, help="One look.")
def watch(session: Session, *, interval: float, once: bool) -> None:
    """How busy, warm and full the machine is, again and again."""
    client = session.client(timeout_s=session.timeout or _PROBE_S)
    if once or (session.machine and session.output != "jsonl"):  # one document, and not several
        _look(session, client)
    else:
        watched(session, client, lambda: _look(session, client), topic=None, refresh_s=interval)


@subcommand(hw, "hal0ctl hw backends", name="backends")
def backends(session: Session) -> None:
    """What slots can run on, and why not on the rest."""
    view = session.client(timeout_s=session.timeout or _PROBE_S).get("/api/hardware")
    session.rows(view["runtimes"], _BACKENDS, name="device")


@subcommand(hw, "hal0ctl hw report --redact")
@click.option("--redact", is_flag=True, help="Without the names of this machine.")
def report(session: Session, *, redact: bool) -> None:
    """All of it as one document, to attach to a report."""
    view = session.client(timeout_s=session.timeout or _PROBE_S).get("/api/hardware")
    if redact:
        view = _redacted(view)
    session.say(output.machine(view, session.output if session.machine else "yaml"))


_BACKENDS: Final = (
    Column("DEVICE", lambda it: it["device"]),
    Column("STATE", lambda it: it["readiness"]),
    Column("NODES", lambda it: ",".join(it["nodes"]) or "-", wide=True),
    Column("WHY", lambda it: it["reason"]),
)


def _look(session: Session, client: Client) -> None:
    view = client.get("/api/hardware")
    live = {key: view[key] for key in ("cpu", "memory_available_bytes", "pools", "gpus", "npus", "seen_at")}
    live["cpu"] = {key: view["cpu"][key] for key in ("busy", "load")}
    session.value(live, "\n".join(_now(session, view)))


def _redacted(view: Json) -> Json:
    """Names and folders out; the rest says nothing about anybody."""
    host = {key: "" if key in _PRIVATE else value for key, value in view["host"].items()}
    return {**view, "host": host, "disks": [{**disk, "path": ""} for disk in view["disks"]]}


def _text(session: Session, view: Json) -> str:
    host, cpu = view["host"], view["cpu"]
    system = ", ".join(filter(None, [host["distribution"], f"Linux {host['kernel']}"]))
    rows = [
        ("machine", host["label"]),
        ("system", system),
        ("cpu", f"{cpu['model'] or 'unknown'}, {cpu['cores']} cores, {cpu['threads']} threads"),
        *(("gpu", _gpu(session, gpu)) for gpu in view["gpus"]),
        *(("npu", _npu(npu)) for npu in view["npus"]),
        *(("memory", _pool(session, pool)) for pool in view["pools"]),
        *(("disk", _disk(session, disk)) for disk in view["disks"]),
        *(("runs on", f"{it['device']}: {_runs(it)}") for it in view["runtimes"] if it["readiness"] != "absent"),
    ]
    said = "" if not view["late"] else "A driver hangs: this is what was seen before.\n"
    return said + "\n".join([f"{name:<9}{text}" for name, text in rows] + list(_advice(view)))


def _gpu(session: Session, gpu: Json) -> str:
    memory = [
        f"{name} {session.size(gpu[f'{key}_total_bytes'])}"
        for name, key in (("VRAM", "vram"), ("GTT", "gtt"))
        if gpu[f"{key}_total_bytes"]
    ]
    driver = gpu["driver"] or "no driver"
    return ", ".join([gpu["name"], driver, *filter(None, [gpu["gfx"], gpu["render_node"]]), *memory])


def _npu(npu: Json) -> str:
    name = "AMD XDNA" if npu["xdna"] else f"NPU {npu['pci_id'] or ''}".strip()
    firmware = [f"firmware {npu['firmware']}"] if npu["firmware"] else []
    return ", ".join([name, npu["driver"] or "no driver", npu["node"] or "no device node", *firmware])


def _pool(session: Session, pool: Json) -> str:
    limit = [f"slots may take {session.size(pool['limit_bytes'])}"] if pool["limit_bytes"] is not None else []
    room = f"{pool['name']}: {session.size(pool['free_bytes'])} free of {session.size(pool['total_bytes'])}"
    return ", ".join([room, *filter(None, [pool["note"]]), *limit])


def _disk(session: Session, disk: Json) -> str:
    kind = f" ({disk['filesystem']})" if disk["filesystem"] else ""
    room = f"{session.size(disk['free_bytes'])} free of {session.size(disk['total_bytes'])}"
    return f"{disk['holds']}: {room}, {disk['path']}{kind}"


def _runs(it: Json) -> str:
    return str(it["reason"]) if it["readiness"] == "ready" else f"{it['readiness']}, {it['reason']}"


def _advice(view: Json) -> Iterator[str]:
    if view["advice"]:
        yield ""
        yield "What would help:"
    for it in view["advice"]:
        yield f"- {it['message']}" + (f" (risk: {it['risk']})" if it["risk"] else "")
        if it["lines"]:
            yield f"{GAP}{it['where']}:"
            yield from (f"{GAP * 2}{line}" for line in it["lines"])


def _now(session: Session, view: Json) -> Iterator[str]:
    cpu = view["cpu"]
    load = " ".join(f"{figure:.2f}" for figure in cpu["load"])
    yield f"cpu      {_share(cpu['busy'])} busy, load {load or '-'}"
    for gpu in view["gpus"]:
        yield f"gpu {gpu['index']}    " + ", ".join(_work(session, gpu))
    for n, npu in enumerate(view["npus"]):
        yield f"npu {n}    " + {True: "active", False: "asleep", None: "not reported"}[npu["active"]]
    for pool in view["pools"]:
        yield f"memory   {_pool(session, pool)}"


def _work(session: Session, gpu: Json) -> Iterator[str]:
    yield f"{_share(gpu['busy'])} busy" + (" (clocks held up)" if gpu["clock_pinned"] else "")
    for key, name in (("vram_used_bytes", "VRAM"), ("gtt_used_bytes", "GTT")):
        if gpu[key] is not None:
            yield f"{name} {session.size(gpu[key])}"
    yield from _figures(gpu)


def _figures(gpu: dict[str, Any]) -> Iterator[str]:
    if gpu["temperature_c"] is not None:
        yield f"{gpu['temperature_c']:.0f} °C"
    if gpu["power_w"] is not None:
        yield f"{gpu['power_w']:.0f} W"
    if gpu["clock_hz"] is not None:
        yield f"{gpu['clock_hz'] / 1e6:.0f} MHz"


def _share(value: float | None) -> str:
    return "not reported" if value is None else f"{value:.0%}"
