"""Keys and sessions over real sockets: made, used, limited, ended, and nowhere to be read."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from hal0.access.keys import csrf_of
from hal0.api.access import CSRF_HEADER
from hal0.observe.logs import JsonLines
from hal0.paths import Paths
from tests.factories import INSTANCE
from tests.functional.operator_app import Operator, operator
from tests.functional.test_api_access import CHAT, chat

REVOKED_WITHIN_S: Final = 5.0
COOKIE: Final = f"hal0_{INSTANCE}"
FOREIGN: Final = {"Host": "elsewhere.example"}  # takes the keyless right away, so that the key alone decides
PAGE: Final = "https://chat.example"


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block, config={"access": {"cors_origins": [PAGE]}}) as served:
        yield served


async def make(hal0: Operator, label: str = "laptop", **wishes: Any) -> str:
    status, made = await hal0.call("POST", "/api/keys", {"label": label, **wishes})
    assert status == 201
    return str(made["key"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def signed_in(hal0: Operator) -> dict[str, str]:
    """The headers of a page of hal0's own, signed in by a link."""
    _, link = await hal0.call("POST", "/api/session/link", {})
    async with hal0.tcp.post("/api/session", json={"link": link["path"].rsplit("/", 1)[1]}) as response:
        assert response.status == 201
        view, cookie = await response.json(), response.cookies[COOKIE].value
    return {"Cookie": f"{COOKIE}={cookie}", "Origin": str(hal0.tcp._base_url).rstrip("/"), CSRF_HEADER: view["csrf"]}


async def test_a_key_is_shown_once_and_its_use_is_seen(hal0: Operator) -> None:
    key = await make(hal0, scopes=["inference", "read"], rate_per_minute=60, expires_in_s=3600)
    _, listed = await hal0.call("GET", "/api/keys")
    (view,) = listed["items"]
    assert key not in json.dumps(listed)
    assert (view["label"], view["scopes"], view["last_used"]) == ("laptop", ["inference", "read"], None)
    assert await chat(hal0.tcp, **FOREIGN, **bearer(key)) == "request.invalid_json"
    assert await chat(hal0.tcp, **FOREIGN, **{"x-api-key": key}) == "request.invalid_json"
    assert await chat(hal0.tcp, **FOREIGN, **bearer("none"), **{"x-api-key": key}) == "request.invalid_json"
    (used,) = (await hal0.over_tcp("GET", "/api/keys", headers=bearer(key)))[1]["items"]
    assert used["last_used"] is not None


async def test_a_key_in_a_url_is_no_key(hal0: Operator) -> None:
    key = await make(hal0, scopes=["admin"])
    for name in ("api_key", "key", "access_token"):
        assert (await hal0.over_tcp("GET", f"/api/slots?{name}={key}"))[0] == 401


async def test_the_request_is_known_by_its_key(hal0: Operator) -> None:
    key = await make(hal0)
    await chat(hal0.tcp, **bearer(key))
    (record,) = hal0.services.dispatcher._decisions
    assert record.key_id == key.split("_")[1]


async def test_a_key_limited_to_slots_is_refused_elsewhere(hal0: Operator) -> None:
    key = await make(hal0, slots=["embed"])
    status, body = await hal0.over_tcp(
        "POST", CHAT, {"model": "primary", "messages": []}, headers={**FOREIGN, **bearer(key)}
    )
    assert (status, body["error"]["code"]) == (403, "auth.forbidden")
    assert "'embed'" in body["error"]["message"]
    status, body = await hal0.over_tcp(
        "POST", "/v1/embeddings", {"model": "embed", "input": "x"}, headers={**FOREIGN, **bearer(key)}
    )
    assert body["error"]["code"] == "slot.no_model"  # let through, to a slot that has nothing to answer with
    status, body = await hal0.call("POST", "/api/keys", {"label": "typo", "slots": ["primray"]})
    assert (status, body["error"]["code"]) == (404, "slot.not_found")


@pytest.mark.parametrize(
    "wishes",
    [
        {"label": "white space"},
        {"label": ""},
        {"label": "x", "scopes": []},
        {"label": "x", "scopes": ["root"]},
        {"label": "x", "scopes": ["admin"], "slots": ["embed"]},
        {"label": "x", "rate_per_minute": 0},
        {"label": "x", "expires_in_s": -1},
        {"label": "x", "expires_in_s": 1e300},
        {"label": "x", "key": "hal0_mine"},
        {},
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(hal0: Operator, wishes: dict[str, Any]) -> None:
    status, body = await hal0.call("POST", "/api/keys", wishes)
    assert (status, body["error"]["code"]) == (400, "request.invalid")
    if set(wishes) == {"label"}:  # in words, not as a pattern
        assert body["error"]["message"].endswith("it is 1 to 64 letters, digits and . _ -, a letter or a digit first")


async def test_a_rate_is_kept_to_and_says_when(hal0: Operator) -> None:
    key = await make(hal0, rate_per_minute=2)
    found = [await chat(hal0.tcp, **bearer(key)) for _ in range(3)]
    assert found == ["request.invalid_json", "request.invalid_json", "auth.rate_limited"]
    async with hal0.tcp.post(CHAT, headers=bearer(key)) as response:
        assert (response.status, response.headers["Retry-After"], response.headers["x-should-retry"]) == (
            429,
            "30",
            "true",
        )


async def test_failed_tries_are_slowed_and_valid_keys_are_not(hal0: Operator) -> None:
    key, wrong = await make(hal0), f"hal0_00000000_{'0' * 64}"
    found = [await chat(hal0.tcp, **bearer(wrong)) for _ in range(12)]
    assert found == ["auth.required"] * 10 + ["auth.rate_limited"] * 2
    assert await chat(hal0.tcp, **bearer(key)) == "request.invalid_json"
    assert await chat(hal0.tcp) == "request.invalid_json"
    status, body = await hal0.over_tcp("POST", "/api/session", {"link": "guess"})
    assert (status, body["error"]["code"]) == (429, "auth.rate_limited")


async def test_a_refusal_says_how_to_make_a_key(hal0: Operator) -> None:
    async with hal0.tcp.get("/api/slots") as response:
        assert "hal0ctl key create NAME --scope read" in (await response.json())["error"]["hint"]


@pytest.mark.parametrize("how", ["revoke", "rotate", "sign out", "revoke the session's key"])
async def test_open_streams_end_with_what_they_stand_on(hal0: Operator, how: str) -> None:
    key = await make(hal0, scopes=["admin"])
    headers = bearer(key)
    if how == "sign out":
        headers = await signed_in(hal0)
    elif how.startswith("revoke the"):
        async with hal0.tcp.post("/api/session", json={"key": key}) as response:
            headers = {"Cookie": f"{COOKIE}={response.cookies[COOKIE].value}"}
    async with (
        aiohttp.ClientSession() as own,
        own.get(f"http://127.0.0.1:{hal0.port}/api/events", headers=headers) as r,
    ):
        assert r.status == 200
        await r.content.readline()
        if how == "sign out":
            assert (await hal0.over_tcp("DELETE", "/api/session", headers=headers))[0] == 200
        elif how == "rotate":
            assert (await hal0.over_tcp("POST", "/api/keys/laptop/rotate", {}, headers=headers))[0] == 200
        else:
            assert (await hal0.over_tcp("DELETE", "/api/keys/laptop", headers=bearer(key)))[0] == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(REVOKED_WITHIN_S):
                await r.content.read()
    assert (await hal0.over_tcp("GET", "/api/slots", headers=headers))[0] == 401


async def test_a_rotation_with_grace_cuts_nothing(hal0: Operator) -> None:
    old = await make(hal0, scopes=["read"])
    async with hal0.tcp.get("/api/events", headers=bearer(old)) as r:
        _, made = await hal0.call("POST", "/api/keys/laptop/rotate", {"grace_s": 60})
        await asyncio.sleep(0.7)
        assert r.content.exception() is None
        for key in (old, made["key"]):
            assert (await hal0.over_tcp("GET", "/api/slots", headers=bearer(key)))[0] == 200


async def test_who_signed_in_with_the_old_text_leaves_with_it(hal0: Operator) -> None:
    old = await make(hal0, scopes=["admin"])
    async with hal0.tcp.post("/api/session", json={"key": old}) as response:
        session = {"Cookie": f"{COOKIE}={response.cookies[COOKIE].value}"}
    async with hal0.tcp.get("/api/events", headers=session) as stream:
        await hal0.call("POST", "/api/keys/laptop/rotate", {"grace_s": 1.0})
        assert (await hal0.over_tcp("GET", "/api/slots", headers=session))[0] == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(REVOKED_WITHIN_S):
                await stream.content.read()
    assert (await hal0.over_tcp("GET", "/api/slots", headers=session))[0] == 401


@pytest.mark.parametrize("how", ["expiry", "the end of the grace"])
async def test_what_ends_by_itself_ends_open_streams_and_kept_connections_too(hal0: Operator, how: str) -> None:
    """A connection that remembers whom it let in must not remember it for longer than that holds."""
    wishes: dict[str, Any] = {"expires_in_s": 1.0} if how == "expiry" else {}
    old = await make(hal0, scopes=["admin"], **wishes)
    headers = {**FOREIGN, **bearer(old)}
    one = aiohttp.TCPConnector(limit=1)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{hal0.port}", connector=one) as kept,
        hal0.tcp.get("/api/events", headers=headers) as stream,
    ):
        assert await chat(kept, **headers) == "request.invalid_json"
        if how != "expiry":
            await hal0.call("POST", "/api/keys/laptop/rotate", {"grace_s": 1.0})
            assert await chat(kept, **headers) == "request.invalid_json"
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(REVOKED_WITHIN_S):
                await stream.content.read()
        assert await chat(kept, **headers) == "auth.required"


async def test_a_session_that_is_not_used_ends_its_open_streams(
    hal0: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.access.keys.SESSION_S", 1.0)
    headers = await signed_in(hal0)
    async with (
        aiohttp.ClientSession() as own,
        own.get(f"http://127.0.0.1:{hal0.port}/api/events", headers=headers) as stream,
    ):
        loop = asyncio.get_running_loop()
        past_the_first_end = loop.time() + 1.2
        while loop.time() < past_the_first_end:  # a use moves the end
            await asyncio.sleep(0.1)
            assert (await hal0.over_tcp("GET", "/api/slots", headers=headers))[0] == 200
        assert stream.content.exception() is None
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(REVOKED_WITHIN_S):
                await stream.content.read()
    assert (await hal0.over_tcp("GET", "/api/slots", headers=headers))[0] == 401


async def test_a_link_signs_a_browser_in_and_removes_the_first_key(hal0: Operator) -> None:
    file = hal0.services.about.paths.admin_key_file
    await asyncio.to_thread(file.write_text, "hal0_...")
    _, link = await hal0.call("POST", "/api/session/link", {})
    shown = ""
    for _ in range(2):  # a chat program that looks at the link first takes nothing away
        async with hal0.tcp.get(link["path"]) as page:
            assert page.headers["Content-Security-Policy"] == "default-src 'self'; frame-ancestors 'none'"
            assert page.headers["Referrer-Policy"] == "same-origin"
            shown = await page.text()
    form, own = dict(re.findall(r'name="(link)" value="(\w+)"', shown)), {"Origin": f"http://127.0.0.1:{hal0.port}"}
    foreign = await hal0.tcp.post("/api/session", data=form, headers={"Origin": "https://evil.example"})
    assert foreign.status == 403
    async with hal0.tcp.post("/api/session", data=form, headers=own, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/")
        cookie = response.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "Strict", "/", "")
    assert not file.exists()
    again = await hal0.tcp.post("/api/session", data=form, headers=own, allow_redirects=False)
    assert again.status == 401
    headers = {"Cookie": f"{COOKIE}={cookie.value}"}
    _, session = await hal0.over_tcp("GET", "/api/session", headers=headers)
    assert session["csrf"] == csrf_of(cookie.value)
    assert (await hal0.over_tcp("GET", "/api/slots", headers=headers))[0] == 200
    status, body = await hal0.over_tcp("POST", "/api/models/scan", {}, headers={**headers, **own})
    assert (status, body["error"]["code"]) == (403, "auth.forbidden")
    ready = {**headers, **own, CSRF_HEADER: session["csrf"]}
    assert (await hal0.over_tcp("POST", "/api/models/scan", {}, headers=ready))[0] == 200
    assert (await hal0.over_tcp("GET", "/mcp/admin", headers=headers))[0] == 404


@pytest.mark.parametrize("form", ["&".join("abcdef"), "link=%ff%00&link=x", "link", ""])
async def test_a_form_that_no_page_of_hal0s_sends_signs_nobody_in(hal0: Operator, form: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with hal0.tcp.post("/api/session", data=form, headers=headers) as response:
        assert response.status in (400, 401)
        error = (await response.json())["error"]
        assert error["code"] in ("request.invalid_form", "auth.required")
        assert "hal0ctl open" in error["hint"]


async def test_behind_tls_the_cookie_is_for_tls_only(paths: Paths, port_block: range) -> None:
    access = {"trusted_proxies": ["127.0.0.1"], "hosts": ["box.example"]}
    async with operator(paths, port_block, config={"access": access}) as hal0:
        _, link = await hal0.call("POST", "/api/session/link", {})
        headers = {"Host": "box.example", "Origin": "https://box.example", "X-Forwarded-For": "192.168.1.7"}
        body = {"link": link["path"].rsplit("/", 1)[1]}
        async with hal0.tcp.post("/api/session", json=body, headers=headers) as response:
            assert (response.status, response.cookies[COOKIE]["secure"]) == (201, True)


@pytest.mark.parametrize(("named", "status"), [("box.example", 201), ("evil.example", 403), (None, 403)])
async def test_behind_a_trusted_proxy_a_page_is_hal0s_own_by_the_name_that_the_proxy_gives(
    paths: Paths, port_block: range, named: str | None, status: int
) -> None:
    access = {"trusted_proxies": ["127.0.0.1"], "hosts": ["box.example"]}
    async with operator(paths, port_block, config={"access": access}) as hal0:
        _, link = await hal0.call("POST", "/api/session/link", {})
        headers = {"Origin": "https://box.example", "X-Forwarded-For": "192.168.1.7"}
        headers |= {} if named is None else {"X-Forwarded-Host": named}
        body = {"link": link["path"].rsplit("/", 1)[1]}
        async with hal0.tcp.post("/api/session", json=body, headers=headers) as response:
            assert response.status == status


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-For": "192.168.1.7"}, "request.invalid_json"),
        (
            {"X-Forwarded-For": "192.168.1.7", "X-Forwarded-Host": "box.example", "Host": "10.0.0.1"},
            "request.invalid_json",
        ),
        ({"X-Forwarded-For": "8.8.8.8"}, "auth.required"),
        ({"X-Forwarded-For": "192.168.1.7, 8.8.8.8"}, "auth.required"),
        ({"X-Forwarded-For": "192.168.1.7", "Origin": "https://evil.example"}, "auth.required"),
        ({}, "auth.required"),
    ],
)
async def test_a_trusted_proxy_says_who_is_of_the_private_network(
    paths: Paths, port_block: range, headers: dict[str, str], expected: str
) -> None:
    access = {"trusted_proxies": ["127.0.0.1"], "open_lan": True, "hosts": ["box.example"]}
    async with operator(paths, port_block, config={"access": access}) as hal0:
        assert await chat(hal0.tcp, **{"Host": "box.example", **headers}) == expected


async def test_a_page_that_the_operator_named_may_call_v1_with_a_key(hal0: Operator) -> None:
    key, origin = await make(hal0, scopes=["admin"]), {"Origin": PAGE}
    asks = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-mine"}
    async with hal0.tcp.options(CHAT, headers=asks) as r:
        assert r.status == 204
        assert r.headers["Access-Control-Allow-Origin"] == PAGE
        assert r.headers["Access-Control-Allow-Headers"] == "authorization,x-mine"
        assert "Access-Control-Allow-Credentials" not in r.headers
    async with hal0.tcp.post(CHAT, json={"model": "primary"}, headers={**origin, **bearer(key)}) as r:
        assert r.headers["Access-Control-Allow-Origin"] == PAGE
        assert "X-Request-ID" in r.headers["Access-Control-Expose-Headers"]
    async with hal0.tcp.post(CHAT, json={}, headers=origin) as r:  # it must be able to read why not
        assert (r.status, r.headers["Access-Control-Allow-Origin"]) == (401, PAGE)
    for path in ("/api/slots", "/"):
        async with hal0.tcp.get(path, headers={**origin, **bearer(key)}) as r:
            assert "Access-Control-Allow-Origin" not in r.headers
            assert r.status == (200 if path == "/" else 403)


@pytest.mark.parametrize("path", [CHAT, "/api/slots", "/mcp/admin", "/chat/completions"])
async def test_other_pages_may_not_even_ask(hal0: Operator, path: str) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with hal0.tcp.options(path, headers=asks) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (403, "access.origin_not_allowed")
        assert not [name for name in r.headers if name.lower().startswith("access-control")]


async def test_every_answer_of_hal0s_own_guards_the_browser(hal0: Operator) -> None:
    for path in ("/", "/api/health", "/v1/models", "/nothing", "/api/slots"):
        async with hal0.tcp.get(path) as r:
            assert r.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in r.headers["Content-Security-Policy"]


async def test_no_key_cookie_or_link_is_written_anywhere(hal0: Operator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = await make(hal0, scopes=["admin"])
    marked = [key, f"hal0_00000000_{'d' * 64}", "sk-marked-0123456789"]
    for text in marked:
        for headers in (bearer(text), {"x-api-key": text}, {"Cookie": f"{COOKIE}={text}"}):
            await chat(hal0.tcp, **headers)
            await chat(hal0.tcp, f"{CHAT}?key={text}", **FOREIGN, **headers)
            await hal0.over_tcp("GET", f"/api/slots?key={text}", headers=headers)
        await hal0.over_tcp("POST", "/api/session", {"key": text})
    for text in marked[:2]:
        await hal0.call("DELETE", f"/api/keys/{text}")  # who found a key somewhere means it so
        await hal0.over_tcp("GET", f"/v1/{text}/models")
        await hal0.over_tcp("GET", f"/{text}/models")
    _, link = await hal0.call("POST", "/api/session/link", {})
    async with hal0.tcp.get(link["path"]) as page:
        assert page.status == 200
    marked.append(link["path"].rpartition("/")[2])
    session = await signed_in(hal0)
    await hal0.over_tcp("GET", "/api/slots", headers=session)
    marked += [session["Cookie"].partition("=")[2], session[CSRF_HEADER]]
    await hal0.services.access.store.save()
    hal0.services.dispatcher._decisions.flush()
    await hal0.services.past.history.settled(5)
    written = "\n".join(JsonLines().format(record) for record in caplog.records)
    assert '"request"' in written
    for file in await asyncio.to_thread(
        lambda: [p for p in hal0.services.about.paths.state_dir.rglob("*") if p.is_file()]
    ):
        written += await asyncio.to_thread(file.read_text, errors="replace")
    assert [text for text in marked if text in written or text.rpartition("_")[2] in written] == []


async def test_damaged_keys_are_said_in_status_and_made_anew_over_the_socket(hal0: Operator) -> None:
    store = hal0.services.access.store
    await make(hal0)
    await asyncio.to_thread(store.file.write_bytes, b"\x00{")
    store.keys.clear()
    await asyncio.to_thread(store.load)
    _, status = await hal0.call("GET", "/api/status")
    assert [line for line in status["attention"] if "keys.json.damaged" in line and "hal0ctl key create" in line]
    key = await make(hal0, "admin", scopes=["admin"])
    assert (await hal0.over_tcp("GET", "/api/slots", headers=bearer(key)))[0] == 200
