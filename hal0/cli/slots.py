"""How a slot's view is put into columns and sentences."""

import time
from typing import Any, Final

from hal0.cli import units
from hal0.cli.output import Column, Json, Row

ROUTABLE: Final = frozenset({"ready", "serving", "idle"})
LOADED: Final = ROUTABLE | {"pulling", "starting", "warming", "unloading"}
_WIDEST: Final = 48  # a longer value pushes its own origin aside, and nobody else's
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


def rate(slot: Row) -> str:
    """Tokens a second of the work under way, as the engine tells."""
    figure = (slot.get("live") or {}).get("tokens_per_second")
    return f"{figure:.1f}" if figure else "-"


def context(slot: Row) -> str:
    """How much of it is in use, where the engine tells."""
    used = (slot.get("live") or {}).get("context_used")
    whole: str = units.context(slot["context_size"])
    return whole if used is None else f"{units.context(used)}/{whole}"


def _text(key: str) -> Any:
    return lambda slot: str(slot[key]) if slot[key] is not None else "-"


COLUMNS: Final = (
    Column("NAME", _text("name")),
    Column("STATE", _text("state"), state=True),
    Column("MODEL", lambda slot: (slot["model"] or "-") + (" (demo)" if slot["demo"] else "")),
    Column("DEVICE", _text("device")),
    Column("MEM", taken, right=True),
    Column("TOK/S", rate, right=True),
    Column("ACTIVE", active, right=True),
    Column("CTX", context),
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
        ("loaded in", _loaded_in(slot.get("last_load"))),
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


def start_text(view: Json) -> str:
    """Each value with its origin; then the flags, with what they win over; then the command."""
    known = [(it["name"], it["value"], it) for it in view["fields"] if it["value"] is not None]
    rows = [(name, value, _origin(it)) for name, value, it in known]
    for it in view["flags"]:
        over = ", ".join(f"{' '.join(old['words'])} of {old['origin']}" for old in it["overrides"])
        rows.append(("flag", " ".join(it["words"]), _origin(it) + (f", over {over}" if over else "")))
    rows += [("env", f"{it['name']}={it['value']}", _origin(it)) for it in view["env"]]
    rows += [("default", f"{it['name']}={it['value']}", _origin(it)) for it in view["request_defaults"]]
    width = min(max(len(str(value)) for _, value, _ in rows), _WIDEST)
    lines = [f"{name:<15} {units.plain(str(value)):<{width}}  {origin}" for name, value, origin in rows]
    end = " ".join(view["command"]) if view["command"] else f"no command: {view['missing']}"
    return "\n".join([*lines, "", units.plain(end)])


def _origin(it: Json) -> str:
    where = f" ({it['where']})" if it["where"] else ""
    return f"{it['origin']}{where}"


def _memory(memory: Json | None) -> str | None:
    if memory is None:
        return None
    terms = ", ".join(f"{term['name']} {_gb(term['bytes'])}" for term in memory["terms"])
    return f"{_gb(memory['need_bytes'])} of {memory['pool']} promised ({terms}); {_actual(memory)}"


def _loaded_in(load: Json | None) -> str | None:
    """How long the last load took, and for what."""
    if load is None:
        return None
    known = [(part, load[f"{part}_s"]) for part in ("create", "start", "load", "ready")]
    parts = ", ".join(f"{part} {units.duration(seconds)}" for part, seconds in known if seconds is not None)
    return units.duration(load["total_s"]) + (f" ({parts})" if parts else "")


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
