"""What happened to hal0 itself, one entry at a time: slots that loaded or failed, jobs that ended. Pure.

An entry is read off two values of the same thing, before and after, as the event stream has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hal0.events.bus import Topic

Value = Mapping[str, Any] | None

# A slot that answers is `serving`, `ready` and `idle` by turns: that is no news.
_UP: Final = frozenset({"ready", "serving", "idle"})
_COMING: Final = frozenset({"pulling", "starting", "warming"})
_ENDED: Final = frozenset({"done", "failed", "cancelled", "superseded", "interrupted"})
_MICROSECOND: Final = 1e6


@dataclass(frozen=True)
class Activity:
    """`id` grows with time and is unique; `kind` is what the entry is about and what happened, as in `slot.ready`.

    `at` is seconds since the epoch, `by` who asked for it where somebody did.
    """

    id: int
    at: float
    kind: str
    subject: str
    message: str
    by: str | None = None

    @staticmethod
    def made(kind: str, subject: str, message: str, at: float, by: str | None = None) -> "Activity":
        return Activity(int(at * _MICROSECOND), at, kind, subject, message, by)


def told(topic: str, entity: str, before: Value, after: Value, at: float) -> Activity | None:
    """The entry that a change makes; None where it is no news. `before` None: it was not there."""
    match topic:
        case Topic.SLOT:
            return _slot(entity, before, after, at)
        case Topic.JOB:
            return _job(before, after, at)
        case Topic.UPSTREAM:
            return _upstream(entity, before, after, at)
        case _:
            return None


def over(topic: str, value: Value) -> bool:
    """Nothing will be told of this thing any more: there may be any number of them."""
    return value is None or (topic == Topic.JOB and value["state"] in _ENDED)


def _slot(name: str, before: Value, after: Value, at: float) -> Activity | None:
    if after is None:
        return Activity.made("slot.deleted", name, f"slot {name} was deleted", at)
    if before is None:
        return Activity.made("slot.created", name, f"slot {name} was created", at)
    was, now = _stage(before["state"]), _stage(after["state"])
    model = after["model"]
    if was == now:
        if now == "ready" and before["model"] != model:
            return Activity.made("slot.swapped", name, f"slot {name} has {model} instead of {before['model']}", at)
        return None
    message = {
        "loading": f"slot {name} loads {model}",
        "ready": f"slot {name} is ready with {model}",
        "unloading": f"slot {name} unloads {model}",
        "offline": f"slot {name} is offline",
    }.get(now, f"slot {name} failed: {after['message']}")
    return Activity.made(f"slot.{now}", name, message, at, after["desired"]["by"])


def _stage(state: str) -> str:
    if state in _UP:
        return "ready"
    if state in _COMING:
        return "loading"
    return "failed" if state == "error" else state


def _job(before: Value, after: Value, at: float) -> Activity | None:
    """Jobs that ended; what they did to a slot is an entry of the slot's."""
    if after is None or after["state"] not in _ENDED or (before is not None and before["state"] in _ENDED):
        return None
    why = (after["error"] or {}).get("message") or after["note"]
    words = f"the {after['kind']} of {after['target']} is {after['state']}"
    message = f"{words}: {why}" if why else words
    return Activity.made(f"job.{after['state']}", after["target"], message, at, after["by"])


def _upstream(name: str, before: Value, after: Value, at: float) -> Activity | None:
    if after is None:
        return Activity.made("upstream.deleted", name, f"upstream {name} was deleted", at)
    if before is not None and before["state"] == after["state"]:
        return None
    return Activity.made(f"upstream.{after['state']}", name, f"upstream {name}: {after['message']}", at)
