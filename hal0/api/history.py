"""`/api/decisions` and `/api/activity`: what happened and why, page by page, and where a request would go now."""

import re
from typing import Final, assert_never

from aiohttp import web

from hal0.access.principal import Principal
from hal0.api.exchange import answer, body_as, flag, number
from hal0.api.middleware import PRINCIPAL_KEY
from hal0.dispatch.resolve import Decision, Outcome, Passage, Refusal
from hal0.dispatch.surface import SURFACE, BodyKind, PathRow
from hal0.errors import Hal0Error
from hal0.observe.live import decision_view, row_of
from hal0.observe.queries import Filters, Page, matches
from hal0.observe.sentence import why
from hal0.services import SERVICES, Services
from hal0.vocab import Access, SlotName
from hal0.wire.history import (
    ActivitiesView,
    ActivityView,
    DecisionsView,
    ExplainRequest,
    ExplainView,
    TriedView,
)

PAGE: Final = ("limit", "before", "since", "until")
# Query parameters that are columns: what they are called here and there.
_EQUAL: Final = {
    "target": "target",
    "asked_model": "asked_model",
    "key": "key_id",
    "path": "path",
    "rule": "rule",
    "code": "code",
    "id": "request_id",
}
FILTERS: Final = (*PAGE, "status", "failed", *_EQUAL)
ACTIVITY_FILTERS: Final = (*PAGE, "kind", "subject")
# What is addressed to a slot's engine needs no explanation.
_ROWS: Final = {spelling: row for row in SURFACE if row.body is not BodyKind.RAW for spelling in row.spellings}
_LIMIT: Final = 50
_MOST: Final = 500
_LATEST: Final = 1e11  # seconds since the epoch
_STATUS: Final = re.compile(r"([1-5])(\d\d|xx)\Z")
_SETTLED_S: Final = 1.0  # the newest request is seldom older than this; a disk that hangs is not waited for


async def list_decisions(request: web.Request) -> web.Response:
    """A key without the scope read sees its own requests alone."""
    services, own = request.app[SERVICES], _own(request[PRINCIPAL_KEY])
    equal = {column: request.query[name] for name, column in _EQUAL.items() if name in request.query}
    filters = _filters(request, equal | own, _statuses(request))
    services.past.decisions.flush()
    page = await _decisions(services, filters, _limit(request), _before(request))
    items = [decision_view(row) for row in page.items]
    return answer(DecisionsView(items=items, next=_cursor(page), problem=services.past.history.health().problem))


async def get_decision(request: web.Request) -> web.Response:
    """The newest request of this id. What was remembered a moment ago need not be on disk yet."""
    services, own, wanted = request.app[SERVICES], _own(request[PRINCIPAL_KEY]), request.match_info["id"]
    record = services.past.decisions.get(wanted)
    if record is not None and matches(row := row_of(record), Filters(own)):
        return answer(decision_view(row))
    page = await services.past.reader.requests(Filters({"request_id": wanted, **own}), 1)
    if not page.items:
        raise Hal0Error(
            "request.not_found",
            f"cannot find the request {wanted!r}",
            hint="The request's id is in its answer's X-Request-ID; dispatch.history_days says how long it is kept.",
        )
    return answer(decision_view(page.items[0]))


async def explain(request: web.Request) -> web.Response:
    """A dry run: the same rules on the same table, and nobody is asked or loaded."""
    body, services = await body_as(request, ExplainRequest), request.app[SERVICES]
    slots = None if body.slots is None else frozenset(map(SlotName, body.slots))
    outcome = services.dispatcher.decide(_row(body.path), body.model or None, slots)
    return answer(_explained(services, body, outcome))


def _explained(services: Services, body: ExplainRequest, outcome: Outcome) -> ExplainView:
    tried = [TriedView(rule=it.rule, hit=it.hit, fact=it.fact) for it in outcome.tried]
    view = ExplainView(
        path=body.path,
        asked_model=body.model,
        target=None,
        upstreams=[],
        model=None,
        rule=None,
        tried=tried,
        candidates=list(outcome.candidates),
        state=None,
        error=None,
        summary=why([it.model_dump() for it in tried]),
    )
    match outcome:
        case Refusal(error):
            return _refused(view, error)
        case Passage(hops):
            upstreams = [hop.upstream for hop in hops]
            return view.model_copy(
                update={"target": outcome.slot, "upstreams": upstreams, "model": outcome.model, "rule": outcome.rule}
            )
        case Decision(slot):
            state = services.supervisor.slot(slot).view().state
            found = view.model_copy(
                update={
                    "target": slot,
                    "model": outcome.model,
                    "rule": outcome.rule,
                    "state": state,
                    "summary": f"{view.summary} {slot} is {state} now.",
                }
            )
            refusal = services.dispatcher.refusal(slot)
            return found if refusal is None else _refused(found, refusal)
        case _:
            assert_never(outcome)


def _refused(view: ExplainView, error: Hal0Error) -> ExplainView:
    ends = f"{view.summary} It would end with {error.status} {error.code}: {error.message}."
    return view.model_copy(update={"error": error.body()["error"], "summary": ends})


async def list_activity(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    equal = {"subject": request.query["subject"]} if "subject" in request.query else {}
    filters = _filters(request, equal, None)
    await services.past.history.settled(_SETTLED_S)
    page = await services.past.reader.activity(filters, _limit(request), _before(request))
    items = [ActivityView(**row) for row in page.items]
    return answer(ActivitiesView(items=items, next=_cursor(page), problem=services.past.history.health().problem))


async def _decisions(services: Services, filters: Filters, limit: int, before: int | None) -> Page:
    if services.past.history.kept:
        await services.past.history.settled(_SETTLED_S)
        return await services.past.reader.requests(filters, limit, before)
    rows = [row for record in services.past.decisions if matches(row := row_of(record), filters)]
    return Page(rows[: -limit - 1 : -1], None)


def _own(principal: Principal) -> dict[str, str]:
    """What a caller's view is restricted to."""
    if principal.may(Access.READ):
        return {}
    assert principal.key_id is not None  # `Access.OWN` lets nobody in without one
    return {"key_id": principal.key_id}


def _row(path: str) -> PathRow:
    row = _ROWS.get(path)
    if row is None:
        raise Hal0Error("request.invalid", f"cannot explain {path!r}: there are {', '.join(_ROWS)}", param="path")
    return row


def _filters(request: web.Request, equal: dict[str, str], statuses: tuple[int, int] | None) -> Filters:
    return Filters(
        equal,
        statuses,
        kind=request.query.get("kind"),
        since=_time(request, "since"),
        until=_time(request, "until"),
    )


def _time(request: web.Request, name: str) -> float | None:
    return number(request, name, 0.0, most=_LATEST) if name in request.query else None


def _statuses(request: web.Request) -> tuple[int, int] | None:
    """`status` is one, or a class as in 5xx; `failed` is all from 400 on."""
    text = request.query.get("status")
    if text is None:
        return (400, 599) if flag(request, "failed") else None
    found = _STATUS.match(text)
    if found is None:
        raise Hal0Error("request.invalid", f"cannot use status={text!r}: it is 503, or 5xx for all", param="status")
    if found[2] == "xx":
        return int(found[1]) * 100, int(found[1]) * 100 + 99
    return int(text), int(text)


def _limit(request: web.Request) -> int:
    return max(int(number(request, "limit", _LIMIT, most=_MOST)), 1)


def _before(request: web.Request) -> int | None:
    text = request.query.get("before")
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise Hal0Error("request.invalid", "cannot use `before`: it is the `next` of a page before", param="before")
    return int(text)


def _cursor(page: Page) -> str | None:
    return None if page.next is None else str(page.next)
