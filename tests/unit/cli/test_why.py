"""`hal0ctl why`, `activity` and `top`: what they ask, what they say, and how they end."""

import json
import threading
from types import SimpleNamespace

import pytest

from hal0.cli import activity
from hal0.cli.exits import Exit
from hal0.cli.session import Session
from hal0.client import Json
from hal0.vocab import SlotState
from hal0.wire.history import TriedView
from tests.fakes.api_server import ApiServer
from tests.fakes.api_views import activity_view, decision_view, slot_view
from tests.unit.cli.conftest import Run


def test_a_request_is_explained_rule_by_rule(api: ApiServer, hal0ctl: Run) -> None:
    tried = [
        TriedView(rule="address", hit=False, fact="no slot is called '\x1b[31mm'"),
        TriedView(rule="preemption", hit=True, fact="'m' is loaded in 'coder'"),
    ]
    api.decisions = [decision_view("a", tried=tried, target="coder", queue_position=2, held_ms=12_100.0, key_id="k1")]
    ran = hal0ctl("why", "a")
    assert ran.code == Exit.DONE
    assert ran.out.splitlines() == [
        'a  POST /v1/chat/completions  asked "primary"  ->  coder',
        "  'primary' means the slot. primary answered 200 after 1.2 s.",
        "  0 a slot's own name        no match     no slot is called 'm'",
        "  1 slot serving this model  MATCH        'm' is loaded in 'coder'",
        "  2 registry binding         not reached",
        "  3 upstream passthrough     not reached",
        "  4 upstream refresh         not reached",
        "  5 capability and path      not reached",
        "  time    held 12 s, connect 0.3 ms, first byte 210.0 ms, hal0 itself 0.2 ms, total 1.2 s",
        "  tokens  7 in, 3 out, 42.5 per second",
        "  key     k1",
    ]
    assert json.loads(hal0ctl("why", "a", "-o", "json").out)["held_ms"] == 12_100.0


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), "limit=1&failed=false"),
        (("last",), "limit=1&failed=false"),
        (("--failed",), "limit=1&failed=true"),
        (("--last", "3"), "limit=3&failed=false"),
    ],
)
def test_the_last_ones(api: ApiServer, hal0ctl: Run, words: tuple[str, ...], asked: str) -> None:
    ran = hal0ctl("why", *words)
    assert (ran.code, ran.out.split()[0]) == (Exit.DONE, "req_01")
    assert api.requests[-1][1] == f"/api/decisions?{asked}"
    assert hal0ctl("why", *words, "-o", "name").out == "req_01\n"


def test_a_dry_run_says_where_it_would_go(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("why", "--model", "primary", "--path", "/v1/completions")
    assert ran.out.startswith('/v1/chat/completions for "primary" would go to primary\n  primary is ready now.\n')
    assert api.requests[-1] == (
        "POST",
        "/api/decisions/explain",
        {"model": "primary", "path": "/v1/completions"},
    )
    assert hal0ctl("why", "last", "--model", "primary").code == Exit.USAGE


def test_what_is_not_there_is_not_found(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("why", "nobody").code == Exit.NOT_FOUND
    api.decisions = []
    ran = hal0ctl("why")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert "there was none" in ran.err


def test_activity_is_listed_with_the_newest_last(api: ApiServer, hal0ctl: Run) -> None:
    api.activity = [activity_view(2, kind="slot.failed", message="slot x failed: \x1b[2Jno room"), activity_view(1)]
    ran = hal0ctl("activity", "--kind", "slot", "--subject", "primary", "-n", "5")
    assert [line.split()[3] for line in ran.out.splitlines()[1:]] == ["slot.ready", "slot.failed"]
    assert "\x1b" not in ran.out
    assert api.requests[-1][1] == "/api/activity?limit=5&kind=slot&subject=primary"
    assert [entry["id"] for entry in json.loads(hal0ctl("activity", "-o", "json").out)] == [1, 2]
    hal0ctl("activity", "--since", "2h")
    assert "&since=" in api.requests[-1][1]


def test_activity_goes_on_with_what_comes(api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said, say = list[object](), activity._say

    def counted(session: Session, entry: Json) -> None:
        say(session, entry)
        said.append(entry)

    def tell() -> None:
        api.listened_to()
        for number, kind in enumerate(("slot.ready", "job.done", "slot.failed"), 2):
            api.tell(activity_view(number, kind=kind, message=f"news {number}"))

    monkeypatch.setattr(activity, "_say", counted)
    monkeypatch.setattr(activity, "time", SimpleNamespace(monotonic=lambda: float(len(said) == 3)))
    telling = threading.Thread(target=tell)
    telling.start()
    ran = hal0ctl("activity", "-f", "--kind", "slot", "--timeout", "1")
    telling.join()
    assert [line.split("  ")[1] for line in ran.out.splitlines()] == ["slot primary is ready", "news 2", "news 4"]


def test_top_shows_the_last_minute_of_each_slot(api: ApiServer, hal0ctl: Run) -> None:
    api.slots = {"primary": slot_view("primary", SlotState.SERVING, in_flight=2), "embed": slot_view("embed")}
    api.decisions = [decision_view(f"r{n}", status=503 if n == 0 else 200) for n in range(3)]
    ran = hal0ctl("top", "--once")
    assert ran.code == Exit.DONE
    assert "last minute 3 requests, 1 failed, 9 tokens, 1.2 s in the middle" in ran.out
    primary = next(line for line in ran.out.splitlines() if line.startswith("primary"))
    assert primary.split()[3:8] == ["2/4", "3", "1", "42.5", "210"]
    found = json.loads(hal0ctl("top", "-o", "json").out)
    assert found["slots"][0]["load"]["failed"] == 1
