"""Whatever the OpenAPI document allows, and what it does not: no 500, no hang, nothing unlogged, on any route."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode
from yarl import URL

from hal0.api.openapi import document
from hal0.api.routes import ROUTES
from hal0.dispatch.surface import SURFACE
from hal0.lib import jsonio
from hal0.paths import Paths
from tests.functional.operator_app import Operator, operator

LIMIT_S = 20.0
GLANCE_S = 0.05  # at an event stream, which has no end
DISPATCHED = {(row.method, spelling) for row in SURFACE for spelling in row.spellings}


def cases(many: int) -> Iterator[requests.PreparedRequest]:
    """So many of each route and each way of asking, the same ones every time.

    A path that `/v1` has is left out in its other spellings. What takes nothing but a name cannot be asked wrongly.
    """
    schema = schemathesis.openapi.from_dict(document(ROUTES))
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # a document that it cannot read raises here
        if not operation.path.startswith(("/v1/", "/api/")):
            continue
        yield from _made(operation, GenerationMode.POSITIVE, many)
        if operation.body or operation.query:
            yield from _made(operation, GenerationMode.NEGATIVE, many)


def _made(operation: Any, mode: GenerationMode, many: int) -> list[requests.PreparedRequest]:
    found: list[requests.PreparedRequest] = []

    @hypothesis.settings(
        max_examples=many,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        asked = case.as_transport_kwargs(base_url="http://hal0")
        known = {"method", "url", "headers", "files", "data", "params", "json", "cookies"}
        found.append(requests.Request(**{name: asked[name] for name in known & asked.keys()}).prepare())

    collect()
    return found


async def ask(hal0: Operator, case: requests.PreparedRequest) -> tuple[str, str] | None:
    """What was wrong with the answer, if anything."""
    url = URL(str(case.url), encoded=True)
    if "wait" in url.query:
        url = url.update_query(timeout_s="0.1")  # a job may take as long as it likes
    headers = {str(name): str(value) for name, value in case.headers.items()} | {"X-Hal0-Hold": "1"}
    body = case.body.encode() if isinstance(case.body, str) else case.body
    name = f"{case.method} {url} {bytes(body or b'')[:200]!r}"
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            hal0.api.request(str(case.method), url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            if response.content_type != "text/event-stream":
                return _judged(hal0, name, response, await response.read())
            await asyncio.wait([asyncio.ensure_future(response.content.readany())], timeout=GLANCE_S)
            return None
    except TimeoutError:
        return name, "no answer"
    except aiohttp.ClientError as error:
        return name, repr(error)


def _judged(hal0: Operator, name: str, response: aiohttp.ClientResponse, body: bytes) -> tuple[str, str] | None:
    if "X-Request-ID" not in response.headers:
        return name, "an answer without an id"
    if (response.method, response.url.path) in DISPATCHED:
        records = [record.request_id for record in hal0.services.dispatcher._decisions]
        if records.count(response.headers["X-Request-ID"]) != 1:
            return name, "not one record"
    if response.status < 400 or response.method == "HEAD":
        return None
    error = jsonio.loads(body)["error"]
    return (name, body.decode()) if error["code"] == "system.internal" else None


@pytest.mark.soak
async def test_no_request_is_too_much(
    paths: Paths, port_block: range, soak_scale: Callable[[int, int], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    asked = list(cases(soak_scale(3, 100)))
    async with operator(paths, port_block) as hal0:
        wrong = [found for case in asked if (found := await ask(hal0, case)) is not None]
        assert wrong == []
        assert "Traceback" not in caplog.text
        assert (await hal0.call("GET", "/api/health"))[0] == 200
