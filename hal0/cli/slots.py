"""How a slot's view is put into columns and sentences."""

import time
from typing import Any, Final

from hal0.cli import units
from hal0.cli.output import Column, Json, Row

ROUTABLE: Final = frozenset({"ready", "serving", "idle"})
LOADED: Final = ROUTABLE | {"pulling", "starting", "warming", "unloading"}
_BUILTIN_ORDER: Final = ("primary", "embed", "embed-rerank", "stt", "tts", "img")


def by_name(items: list[Json]) -> list[Json]:
    """Built-ins in their usual order, then the others by name."""

    def rank(slot: Json) -> tuple[int, str]:
        name = slot["name"]
        return (_BUILTIN_ORDER.index(name) if name in _BUILTIN_ORDER else len(_BUILTIN_ORDER), name)

    return sorted(items, key=rank)


def active(slot: Row) -> str:
    """Requests in flight of those that fit, or how many are held while it loads."""
    if slot["queued"] and slot["state"] not in ROUTABLE:
        return f"{slot['queued']} held"
    if slot["state"] not in ROUTABLE:
        return "-"
    most = slot["max_inflight"]
    return f"{slot['in_flight']}/{most}" if most else str(slot["in_flight"])


def taken(slot: Row) -> str:
    """What it takes of memory, as measured; with a ~ what was promised to it, where nobody can measure."""
    memory = slot.get("memory")
    if slot["state"] not in LOADED or memory is None:
        return "-"
    if memory["actual_bytes"] is None:
        return f"~{units.size(memory['need_bytes'])}"
    return units.size(sum(place["bytes"] for place in memory.get("places", ())) or memory["actual_bytes"])


def until(slot: Row) -> str:
    """What is next: progress and time left of a load, or the next try after a failure."""
    progress, failure = slot["progress"], slot["failure"]
    if slot["state"] == "error" and failure and failure["next_attempt_at"]:
        return f"retry in {units.duration(failure['next_attempt_at'] - time.time())}"
    if slot["state"] in ROUTABLE or not progress:
        return "-"
    about = "~" if progress["source"] == "estimate" else ""
    parts = [f"{about}{progress['fraction']:.0%}"] if progress["fraction"] is not None else []
    parts += [units.duration(slot["remaining_s"])] if slot["remaining_s"] is not None else []
    return ", ".join(parts) or progress["phase"]


def _text(key: str) -> Any:
    return lambda slot: str(slot[key]) if slot[key] is not None else "-"


COLUMNS: Final = (
    Column("NAME", _text("name")),
    Column("STATE", _text("state"), state=True),
    Column("MODEL", lambda slot: (slot["model"] or "-") + (" (demo)" if slot["demo"] else "")),
    Column("DEVICE", _text("device")),
    Column("MEM", taken, right=True),
    Column("ACTIVE", active, right=True),
    Column("CTX", lambda slot: units.context(slot["context_size"])),
    Column("UNTIL", until),
    Column("EST", lambda slot: units.size((slot.get("memory") or {}).get("predicted_bytes")), right=True, wide=True),
    Column("PROVIDER", _text("provider"), wide=True),
    Column("PORT", _text("port"), right=True, wide=True),
    Column("SINCE", lambda slot: units.ago(slot["since"], time.time()), wide=True),
    Column("USED", lambda slot: units.ago(slot["last_used"], time.time()), wide=True),
    Column("MESSAGE", _text("message"), wide=True),
)


def details(slot: Json) -> str:
    """Everything a person wants to know about one slot."""
    desired = slot["desired"]
    lines = [
        ("slot", slot["name"] + ("  (built in)" if slot["builtin"] else "")),
        ("state", f"{slot['state']}, {units.ago(slot['since'], time.time())}"),
        ("", slot["message"]),
        ("model", (slot["model"] or "-") + ("  (demonstration model, its answers are noise)" if slot["demo"] else "")),
        ("seed", slot["seed_model"] if slot["seed_model"] not in (None, slot["model"]) else None),
        ("serves", ", ".join(sorted({s["capability"] for s in slot["serves"]}))),
        ("engine", f"{slot['provider']} on {slot['device']}"),
        ("address", slot["url"]),
        ("context", units.context(slot["context_size"])),
        ("memory", _memory(slot.get("memory"))),
        ("pinned", "yes, never unloaded by itself" if slot["pinned"] else None),
        ("requests", f"{slot['in_flight']} in flight, {slot['queued']} queued"),
        ("desired", f"{desired['want']} by {desired['by']}, {units.ago(desired['at'], time.time())}"),
        ("next", until(slot) if until(slot) != "-" else None),
        ("stale", slot["stale"]),
        ("started by", slot["fallback"]["text"] if slot["fallback"] else None),
        ("unsaved", "its record could not be written, see: hal0ctl doctor" if slot["unsaved"] else None),
        *(("container", _container(c)) for c in slot["containers"]),
        *(("note", note) for note in slot["notes"]),
    ]
    text = "\n".join(f"{key:<10} {units.plain(value)}".rstrip() for key, value in lines if value)
    return text + (_failure(slot["failure"]) if slot["failure"] else "")


def _memory(memory: Json | None) -> str | None:
    if memory is None:
        return None
    terms = ", ".join(f"{term['name']} {_gb(term['bytes'])}" for term in memory["terms"])
    return f"{_gb(memory['need_bytes'])} of {memory['pool']} promised ({terms}); {_actual(memory)}"


def _actual(memory: Json) -> str:
    if memory["actual_bytes"] is None:
        return "an estimate: not measured"
    places = ", ".join(f"{_gb(place['bytes'])} of {place['name']}" for place in memory.get("places", ()))
    return f"{places or _gb(memory['actual_bytes'])} taken"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _container(container: Json) -> str:
    port = f", port {container['port']}" if container["port"] else ""
    return f"{container['name']}  {container['role']}{port}"


def _failure(failure: Json) -> str:
    how = [f"exit {failure['exit_code']}"] if failure["exit_code"] is not None else []
    how += [f"{failure['signal']} ({failure['signal_words']})"] if failure["signal"] else []
    how += ["out of memory"] if failure["oom"] else []
    lines = ["", f"failure    {failure['message']}   [{failure['code']}]"]
    lines.append(
        f"           {failure['failure_class']}, attempt {failure['attempt']}" + "".join(f", {h}" for h in how)
    )
    lines += [f"           {failure['evidence']}"] if failure["evidence"] else []
    lines += [f"           | {units.plain(line)}" for line in failure["log_tail"][-8:]]
    return "\n".join(lines)
