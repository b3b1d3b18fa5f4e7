"""`hal0ctl why`: where a request went and why, how it waited and how it ended; or where one would go."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import click

from hal0.cli import units
from hal0.cli.names_of import ModelName, RequestId
from hal0.cli.options import command
from hal0.cli.output import Json
from hal0.cli.session import Session
from hal0.client import ApiError, Client, part
from hal0.vocab import Rule

_LAST: Final = "last"
_MOST: Final = 500
# What the rules are called by people, in their order.
_RULES: Final[Mapping[str, str]] = {
    Rule.ADDRESS: "a slot's own name",
    Rule.PREEMPTION: "slot serving this model",
    Rule.REGISTRY: "registry binding",
    Rule.PASSTHROUGH: "upstream passthrough",
    Rule.PREFETCH: "upstream refresh",
    Rule.CAPABILITY: "capability and path",
}
_TIMES: Final = (
    ("held", "held_ms"),
    ("other slots' turn", "turn_ms"),
    ("connect", "connect_ms"),
    ("first byte", "first_byte_ms"),
    ("hal0 itself", "overhead_ms"),
    ("total", "total_ms"),
)
_TOKENS: Final = (("in", "prompt_tokens"), ("out", "completion_tokens"))


@command("hal0ctl why last")
@click.argument("request", required=False, type=RequestId(), metavar="[REQUEST|last]")
@click.option("--model", type=ModelName(), help="Instead: where a request for this model would go now.")
@click.option("--path", metavar="PATH", help="The path of such a request [/v1/chat/completions].")
@click.option("--last", "count", type=click.IntRange(1, _MOST), metavar="N", help="The last N requests.")
@click.option("--failed", is_flag=True, help="Only requests that failed.")
def why(
    session: Session, *, request: str | None, model: str | None, path: str | None, count: int | None, failed: bool
) -> None:
    """Explain a request: which rule decided, how it waited, how it ended."""
    client = session.client()
    if model is not None or path is not None:
        if request or count or failed:
            raise click.UsageError("--model and --path ask about a request that was not sent")
        body = {"model": model} if path is None else {"model": model, "path": path}
        found = client.post("/api/decisions/explain", body)
        session.value(found, _explained(found), name=found["target"] or "-")
    elif request not in (None, _LAST):
        found = client.get(f"/api/decisions/{part(request)}")
        session.value(found, _told(found), name=found["request_id"])
    elif count is None:
        found = _newest(client, 1, failed=failed)[0]
        session.value(found, _told(found), name=found["request_id"])
    else:
        _list(session, _newest(client, count, failed=failed))


def _newest(client: Client, count: int, *, failed: bool) -> list[Json]:
    """At least one. Raises request.not_found."""
    query = urlencode({"limit": count, "failed": str(failed).lower()})
    page = client.get(f"/api/decisions?{query}")
    items: list[Json] = page["items"]
    if not items:
        which = "failed request" if failed else "request"
        raise ApiError("request.not_found", f"cannot find a {which}: there was none", status=404)
    return items


def _list(session: Session, items: list[Json]) -> None:
    if session.machine:
        session.rows(items, ())
    elif session.output == "name":
        session.rows(items, (), name="request_id")
    else:
        session.say("\n\n".join(map(_told, items)))


def _told(row: Json) -> str:
    asked = f'asked "{row["asked_model"]}"' if row["asked_model"] is not None else "asked for no model"
    head = f"{row['request_id']}  {row['method']} {row['path']}  {asked}  ->  {row['target'] or 'nobody'}"
    spent = [f"{word} {_time(row[member])}" for word, member in _TIMES if row[member]]
    lines = [head, f"  {row['summary']}", *_rules(row), f"  {'time':<8}{', '.join(spent)}"]
    tokens = [f"{row[member]} {word}" for word, member in _TOKENS if row[member] is not None]
    if tokens:
        rate = f", {row['tokens_per_second']:.1f} per second" if row["tokens_per_second"] else ""
        lines.append(f"  {'tokens':<8}{', '.join(tokens)}{rate}")
    if row["key_id"]:
        lines.append(f"  {'key':<8}{row['key_id']}")
    return units.plain("\n".join(lines))


def _explained(found: Json) -> str:
    where = found["target"] or " or ".join(found["upstreams"]) or "nobody"
    asked = f'"{found["asked_model"]}"' if found["asked_model"] is not None else "no model"
    head = f"{found['path']} for {asked} would go to {where}"
    return units.plain("\n".join([head, f"  {found['summary']}", *_rules(found)]))


def _rules(row: Json) -> list[str]:
    """Each rule in its order: whether it matched, and the fact that said so."""
    tried: dict[str, dict[str, Any]] = {it["rule"]: it for it in row["tried"]}
    width = max(map(len, _RULES.values()))
    lines = []
    for number, (rule, words) in enumerate(_RULES.items()):
        it = tried.get(rule)
        verdict = "not reached" if it is None else "MATCH" if it["hit"] else "no match"
        fact = "" if it is None else f"  {it['fact']}"
        lines.append(f"  {number} {words:<{width}}  {verdict:<11}{fact}".rstrip())
    return lines


def _time(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 1000 else units.duration(ms / 1000)
