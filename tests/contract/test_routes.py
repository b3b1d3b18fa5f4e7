"""The route table: every route has its class, and the two descriptions generated from it are whole."""

import html
import re
from typing import Any, Final

import pytest
from aiohttp import web

from hal0.api.openapi import document
from hal0.api.page import HEADERS, files_root
from hal0.api.route import Route, register, routes_of
from hal0.api.routes import ROUTES
from hal0.errors import TABLE
from hal0.vocab import Access

# What anybody on the network may ask; whatever joins this list is a decision, not an accident.
OPEN: Final = {
    ("GET", "/"),
    ("GET", "/assets/{file}"),
    ("GET", "/api/health"),
    ("GET", "/health"),  # the same
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{id:.+}"),
    ("GET", "/v1/images/results/{name}"),  # the name is the proof
    ("GET", "/sign-in/{word}"),
    ("POST", "/api/session"),  # its body is the proof
}
# What a key without the scope read may ask: it gets its own requests alone.
OWN: Final = {("GET", "/api/decisions"), ("GET", "/api/decisions/{id}")}
# A POST for its body's sake, which changes nothing.
DRY: Final = {("POST", "/api/decisions/explain")}
# The paths that clients and hal0ctl rely on.
PROMISED: Final = """
GET /api/health
GET /api/status
GET /api/events
GET /api/decisions
GET /api/decisions/{id}
POST /api/decisions/explain
GET /api/activity
GET /metrics
GET /api/slots
GET /api/slots/{name}
POST /api/slots
POST /api/slots/draft
DELETE /api/slots/{name}
GET /api/slots/{name}/logs
GET /api/slots/{name}/failure
POST /api/slots/{name}/load
POST /api/slots/{name}/unload
POST /api/slots/{name}/restart
POST /api/slots/{name}/swap
POST /api/slots/{name}/reset
POST /api/slots/{name}/pin
POST /api/slots/{name}/unpin
GET /api/jobs
GET /api/jobs/{id}
DELETE /api/jobs/{id}
GET /api/images
POST /api/images/{key}/build
POST /api/images/{key}/pull
POST /api/images/{key}/verify
POST /api/images/prune
GET /api/capabilities
GET /api/capabilities/{card}
POST /api/capabilities/{card}/{child}
POST /api/capabilities/{card}/{child}/plan
POST /api/capabilities/{card}/{child}/test
GET /api/setup
POST /api/setup
GET /api/hardware
POST /api/hardware/probe
GET /api/catalog
GET /api/models
POST /api/models/scan
POST /api/models/demo
POST /api/models/alias
POST /api/models/bind
GET /api/models/fit
GET /api/models/{id}
DELETE /api/models/{id}
GET /api/pulls
GET /api/pulls/{id}
POST /api/pulls
POST /api/pulls/{id}/pause
POST /api/pulls/{id}/resume
DELETE /api/pulls/{id}
GET /api/upstreams
GET /api/upstreams/{name}
GET /api/upstreams/{name}/models
POST /api/upstreams
PATCH /api/upstreams/{name}
DELETE /api/upstreams/{name}
POST /api/upstreams/{name}/refresh
POST /api/upstreams/{name}/test
GET /api/keys
POST /api/keys
POST /api/keys/{id}/rotate
DELETE /api/keys/{id}
GET /api/session
POST /api/session
DELETE /api/session
GET /api/openapi.json
GET /v1/models
POST /v1/chat/completions
POST /v1/completions
POST /v1/embeddings
GET /
"""

each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


def test_only_the_listed_routes_are_open() -> None:
    assert {(route.method, route.path) for route in ROUTES if route.access is Access.OPEN} == OPEN


@each_route
def test_what_changes_something_is_the_operators_alone(route: Route) -> None:
    under_api, name = route.path.startswith("/api/"), (route.method, route.path)
    if name in OWN | DRY:
        assert route.access is (Access.OWN if name in OWN else Access.READ)
    elif route.method != "GET" and (route.method, route.path) not in OPEN:
        assert route.access is (Access.ADMIN if under_api else Access.INFERENCE)
    elif route.method == "GET" and under_api and (route.method, route.path) not in OPEN:
        assert route.access is Access.READ


def test_what_was_promised_is_there_and_once() -> None:
    names = [f"{route.method} {route.path}" for route in ROUTES]
    assert set(PROMISED.strip().splitlines()) <= set(names)
    assert len(names) == len(set(names))


def test_a_route_without_a_class_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="access"):
        Route("GET", "/api/new", ROUTES[0].handler, summary="No class.")  # type: ignore[call-arg]


def test_an_application_answers_the_table_and_nothing_else() -> None:
    app = web.Application()
    register(app, ROUTES)
    assert routes_of(app) == ROUTES
    registered = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    extra = {path for method, path in registered if method not in ("HEAD", *(r.method for r in ROUTES))}
    assert not extra
    assert len([1 for method, _ in registered if method != "HEAD"]) == len(ROUTES)


@each_route
def test_every_route_is_described(route: Route, described: dict[str, Any]) -> None:
    operation = described["paths"][re.sub(r":[^{}]*}", "}", route.path)][route.method.lower()]
    assert operation["x-hal0-access"] == route.access
    assert operation["summary"].endswith(".")
    parameters = [(p["in"], p["name"]) for p in operation.get("parameters", [])]
    in_path = [("path", name) for name in re.findall(r"\{(\w+)", route.path)]
    assert parameters == in_path + [("query", name) for name in route.query]


def test_every_reference_of_the_description_leads_somewhere(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    found = set(re.findall(r"'#/components/schemas/([^']+)'", repr(described)))
    assert found <= schemas.keys()
    assert {"JobView", "SlotView", "LoadRequest", "SwapRequest", "HealthView", "Error"} <= found
    ids = [op["operationId"] for path in described["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))


def test_a_body_is_required_only_where_a_member_is(described: dict[str, Any]) -> None:
    def required(verb: str) -> bool:
        body: dict[str, Any] = described["paths"][f"/api/slots/{{name}}/{verb}"]["post"]["requestBody"]
        return bool(body["required"])

    assert {verb for verb in ("load", "unload", "restart", "swap", "reset") if required(verb)} == {"swap"}


def test_the_page_names_every_path_as_it_is() -> None:
    rows = re.findall(r"<tr><td><code>(\S+) (.+?)</code></td><td>(.+?)</td></tr>", _index())
    assert sorted(map(tuple, rows)) == sorted((r.method, html.escape(r.path), html.escape(r.summary)) for r in ROUTES)


def test_the_page_fetches_nothing_from_elsewhere_and_runs_nothing() -> None:
    links = re.findall(r'(?:href|src|action)="([^"]*)"', _index())
    assert links
    assert all(link.startswith("/") and not link.startswith("//") for link in links)
    assert not re.search(r"<script|<style|style=|\son\w+=", _index())
    assert not re.search(r"url\(|@import", (files_root() / "style.css").read_text())
    for link in links:
        if link.startswith("/assets/"):
            assert (files_root() / link.removeprefix("/assets/")).is_file(), link
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def _index() -> str:
    return (files_root() / "index.html").read_text()


def test_every_error_code_is_described(described: dict[str, Any]) -> None:
    told = described["x-hal0-errors"]
    assert list(told) == list(TABLE)
    assert told["slot.loading"].keys() == {"status", "retry", "title", "hint"}
    assert (told["slot.loading"]["status"], told["slot.loading"]["retry"]) == (503, True)
