"""What happened, over real sockets: page by page, only one's own, live, and where a request would go."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from hal0.events.bus import Topic
from hal0.paths import Paths
from tests.functional.operator_app import Operator, operator
from tests.functional.test_api_access import CHAT, NO_JSON
from tests.functional.test_api_events import listening
from tests.functional.test_api_keys import FOREIGN, bearer, make

Json = dict[str, Any]


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block) as served:
        yield served


async def ask(hal0: Operator, model: str = "tts", **headers: str) -> str:
    """A request that is refused at its slot; its id."""
    async with hal0.tcp.post(CHAT, json={"model": model, "messages": []}, headers=headers) as response:
        return str(response.headers["X-Request-ID"])


async def listed(hal0: Operator, query: str = "") -> list[Json]:
    status, body = await hal0.call("GET", f"/api/decisions{query}")
    assert status == 200, body
    return list(body["items"])


async def test_a_request_is_found_by_its_id_at_once_and_in_the_list(hal0: Operator) -> None:
    name = await ask(hal0)
    status, found = await hal0.call("GET", f"/api/decisions/{name}")
    assert status == 200
    assert (found["request_id"], found["asked_model"], found["rule"]) == (name, "tts", "address")
    assert found["summary"].startswith("'tts' means the slot 'tts'. It ended with ")
    (row,) = await listed(hal0)
    assert row["seq"] == 1
    assert {**row, "seq": None} == found, "from the disk as from memory"
    status, body = await hal0.call("GET", "/api/decisions/nobody")
    assert (status, body["error"]["code"]) == (404, "request.not_found")


async def test_pages_follow_each_other_without_a_gap(hal0: Operator) -> None:
    names = [await ask(hal0) for _ in range(7)]
    found: list[str] = []
    query = "?limit=3"
    while True:
        _, page = await hal0.call("GET", f"/api/decisions{query}")
        found += [row["request_id"] for row in page["items"]]
        if page["next"] is None:
            break
        if len(found) == 3:
            await ask(hal0)  # what comes meanwhile moves nothing
        query = f"?limit=3&before={page['next']}"
    assert found == names[::-1]


async def test_filters_leave_the_rest_out(hal0: Operator) -> None:
    first, second = await ask(hal0, "tts"), await ask(hal0, "nonsense")
    async with hal0.tcp.post(CHAT, data=NO_JSON) as response:
        third = response.headers["X-Request-ID"]
    rows = {row["request_id"]: row for row in await listed(hal0)}

    async def only(query: str) -> set[str]:
        return {row["request_id"] for row in await listed(hal0, query)}

    assert await only("?asked_model=tts") == {first}
    assert await only("?rule=capability") == {second}
    assert await only("?status=4xx&code=request.invalid_json") == {third}
    assert await only(f"?status={rows[first]['status']}&asked_model=tts") == {first}
    assert await only("?failed=true") == {first, second, third}
    assert await only(f"?since={rows[third]['at']}") == {third}
    assert await only(f"?until={rows[second]['at']}") == {first}
    assert await only(f"?id={second}") == {second}
    assert await only("?asked_model=' OR 1=1 --") == set()


@pytest.mark.parametrize("query", ["status=600", "status=5x", "limit=501", "before=x", "since=soon", "failed=perhaps"])
async def test_a_question_that_makes_no_sense_is_refused(hal0: Operator, query: str) -> None:
    status, body = await hal0.call("GET", f"/api/decisions?{query}")
    assert (status, body["error"]["code"]) == (400, "request.invalid")
    assert body["error"]["param"] == query.partition("=")[0]


async def test_a_key_sees_its_own_requests_alone(hal0: Operator) -> None:
    mine, yours = await make(hal0, "mine"), await make(hal0, "yours")
    reader = await make(hal0, "reader", scopes=["read"])
    my_request = await ask(hal0, **FOREIGN, **bearer(mine))
    your_request, local_request = await ask(hal0, **FOREIGN, **bearer(yours)), await ask(hal0)

    async def seen(key: str, path: str = "/api/decisions") -> tuple[int, Any]:
        return await hal0.over_tcp("GET", path, headers=bearer(key))

    assert [row["request_id"] for row in (await seen(mine))[1]["items"]] == [my_request]
    assert (await seen(mine, f"/api/decisions?id={your_request}"))[1]["items"] == []
    assert (await seen(mine, "/api/decisions?key="))[1]["items"][0]["request_id"] == my_request
    assert (await seen(mine, f"/api/decisions/{my_request}"))[0] == 200
    for other in (your_request, local_request):
        assert (await seen(mine, f"/api/decisions/{other}"))[0] == 404
    assert len((await seen(reader))[1]["items"]) == 3
    assert (await hal0.over_tcp("GET", "/api/decisions"))[0] == 401


TURNED_AWAY = [
    ("POST", CHAT, 401, "auth.required"),  # as most clients write it, and with something that takes the longer way
    ("POST", f"{CHAT}?q=1", 401, "auth.required"),
    ("POST", "/v1/nothing%ff%fe%00%22", 404, "request.not_found"),
    ("PUT", "/v1/models", 405, "request.method"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), TURNED_AWAY)
async def test_who_is_turned_away_is_remembered_once(
    hal0: Operator, method: str, path: str, status: int, code: str
) -> None:
    headers = {"Host": "elsewhere.example", "Authorization": f"Bearer hal0_00000000_{'d' * 64}"}
    names = []
    for _ in range(2):  # the second one on a connection that is known
        async with hal0.tcp.request(method, URL(path, encoded=True), json={} if method == "POST" else None,
                                    headers=headers) as response:  # fmt: skip
            assert response.status == status
            names.append(response.headers["X-Request-ID"])
    rows = await listed(hal0)
    assert [(row["status"], row["code"], row["target"]) for row in rows] == [(status, code, None)] * 2
    assert [row["request_id"] for row in rows] == names[::-1]
    assert rows[0]["path"].startswith(path.partition("?")[0].partition("%")[0])
    assert hal0.services.past.history.health().dropped == 0


async def test_what_asks_for_no_model_is_no_request_of_the_history(hal0: Operator) -> None:
    for path in ("/favicon.ico", "/api/nothing", "/api/decisions/nobody"):
        assert (await hal0.call("GET", path))[0] == 404
    assert await listed(hal0) == []


async def test_what_operators_do_is_an_entry_with_their_name(hal0: Operator) -> None:
    key = await make(hal0, "ops", scopes=["admin"])
    (made,) = (await hal0.call("GET", "/api/keys"))[1]["items"]
    assert (await hal0.over_tcp("POST", "/api/slots/nobody/load", {}, headers=bearer(key)))[0] == 404
    assert (await hal0.over_tcp("POST", "/api/slots/primary/reset", {}, headers=FOREIGN))[0] == 401
    _, page = await hal0.call("GET", "/api/activity?kind=operator")
    assert [(entry["kind"], entry["by"], entry["message"]) for entry in page["items"]] == [
        (
            "operator.refused",
            f"key {made['id']}",
            "POST /api/slots/nobody/load: it ended with 404 slot.not_found",
        ),
        ("operator.done", "socket", "POST /api/keys: done"),
    ]


async def test_explain_says_where_it_would_go_and_leaves_no_trace(hal0: Operator) -> None:
    async def explained(**body: Any) -> Json:
        status, found = await hal0.call("POST", "/api/decisions/explain", body)
        assert status == 200, found
        return dict(found)

    found = await explained(model="primary")
    assert (found["target"], found["rule"], found["model"], found["state"]) == ("primary", "address", "one", "offline")
    assert found["summary"] == "'primary' means the slot 'primary'. primary is offline now."
    found = await explained(model="unheard-of", path="/v1/embeddings")
    assert (found["target"], found["rule"], [it["rule"] for it in found["tried"]][-1]) == ("embed", *["capability"] * 2)
    assert (found["error"]["code"], found["state"]) == ("slot.no_model", "offline")  # at its gate
    assert found["summary"].endswith("It would end with 409 slot.no_model: cannot answer: slot 'embed' has no model.")
    found = await explained(model="primary", slots=["embed"])
    assert (found["target"], found["error"]["code"]) == (None, "auth.forbidden")
    assert await listed(hal0) == []
    status, body = await hal0.call("POST", "/api/decisions/explain", {"path": "/v1/nothing"})
    assert (status, body["error"]["param"]) == (400, "path")
    assert (await hal0.call("GET", "/api/slots/primary"))[1]["state"] == "offline"


async def test_activity_is_told_live_and_remembered(hal0: Operator) -> None:
    async with listening(hal0, "?topics=activity") as listener:
        assert (await listener.next())[1]["topic"] == "hello"
        await hal0.call("POST", "/api/slots/primary/load?wait=true")
        _, ready = await listener.where(kind="slot.ready")
        assert (ready["topic"], ready["value"]["subject"], ready["value"]["by"]) == ("activity", "primary", "operator")
        await listener.where(kind="job.done")
    _, page = await hal0.call("GET", "/api/activity?kind=slot&subject=primary")
    assert [entry["kind"] for entry in page["items"]] == ["slot.ready", "slot.loading"]
    assert page["items"][0] == ready["value"]
    _, page = await hal0.call("GET", "/api/activity?limit=1")
    _, older = await hal0.call("GET", f"/api/activity?before={page['next']}")
    kinds = [entry["kind"] for entry in page["items"] + older["items"]]
    assert sorted(kinds) == ["job.done", "operator.done", "slot.loading", "slot.ready"]


async def test_requests_are_told_live_to_those_who_ask(hal0: Operator) -> None:
    async with listening(hal0, "?topics=decision,job") as listener, listening(hal0) as usual:
        await listener.next()
        name = await ask(hal0)
        _, data = await listener.next()
        assert (data["topic"], data["id"], data["value"]["asked_model"]) == ("decision", name, "tts")
        hal0.services.bus.publish(Topic.SLOT, "primary", None)
        assert "decision" not in await usual.topics(7)
    status, body = await hal0.call("GET", "/api/events?topics=slot,nonsense")
    assert (status, body["error"]["param"]) == (400, "topics")


async def test_a_history_that_is_unwell_is_said_and_stops_nothing(hal0: Operator) -> None:
    await ask(hal0)
    await listed(hal0)
    file = hal0.services.past.history.file
    for name in (file, f"{file}-wal", f"{file}-shm"):
        await asyncio.to_thread(_spoil, name)
    name = await ask(hal0)
    assert (await hal0.call("GET", f"/api/decisions/{name}"))[0] == 200
    async with asyncio.timeout(10):
        while True:
            await ask(hal0)
            hal0.services.past.decisions.flush()
            await hal0.services.past.history.settled(1)
            _, health = await hal0.call("GET", "/api/health")
            (check,) = [check for check in health["checks"] if check["name"] == "history"]
            if check["state"] != "ok":
                break
    assert "damaged" in check["message"]
    assert len(await listed(hal0)) > 0, "a new one has begun"


def _spoil(name: Any) -> None:
    with open(name, "r+b") as file:  # noqa: PTH123
        size = len(file.read())
        file.seek(0)
        file.write(b"\xff" * size)


async def test_with_no_days_nothing_is_kept_on_disk_and_memory_answers(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, config={"dispatch": {"history_days": 0}}) as hal0:
        names = [await ask(hal0) for _ in range(3)]
        assert [row["request_id"] for row in await listed(hal0, "?limit=2")] == names[:0:-1]
        assert await listed(hal0, "?asked_model=other") == []
        assert not await asyncio.to_thread(hal0.services.past.history.file.exists)
