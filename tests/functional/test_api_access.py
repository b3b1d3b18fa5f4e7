"""The access rule on real sockets: what TCP gives to whom, and a real proxy that gives nothing away."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from hal0.api.route import Route
from hal0.api.routes import ROUTES
from hal0.paths import Paths
from hal0.vocab import Access
from tests.functional.bare_nginx import bare_nginx
from tests.functional.operator_app import Operator, operator
from tests.functional.raw_client import raw

# Refused as JSON only after the access rule let it through, and without any slot being bothered.
SAMPLES: Final = {
    "{card}": "embed",
    "{child}": "rerank",
    "{word}": "none",
    "{name}": "primary",
    "{id:.+}": "one",
    "{id}": "x",
    "{key}": "cpu",
}
OPEN: Final = Access.OPEN
CHAT, NO_JSON = "/v1/chat/completions", b"{"


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block) as served:
        yield served


async def chat(session: aiohttp.ClientSession, url: str = CHAT, **headers: str) -> str:
    """The error code of a chat whose body is no JSON: request.invalid_json for those who are let in."""
    async with session.post(url, data=NO_JSON, headers=headers) as response:
        code: str = (await response.json())["error"]["code"]
        return code


def sample(path: str) -> str:
    for name, value in SAMPLES.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_tcp_gives_operators_routes_to_nobody(hal0: Operator, route: Any) -> None:
    async with hal0.tcp.request(
        route.method, sample(route.path), data=NO_JSON if route.method == "POST" else None
    ) as r:
        refused = r.status == 401 and (await r.json())["error"]["code"] == "auth.required"
    assert refused is (route.access in (Access.OWN, Access.READ, Access.ADMIN))


@pytest.mark.parametrize("route", [it for it in ROUTES if it.method == "GET"], ids=lambda route: route.path)
async def test_head_asks_for_the_same_right_as_get(hal0: Operator, route: Route) -> None:
    async with hal0.tcp.head(sample(route.path)) as response:
        assert response.status == 405 if not route.head else (response.status == 401) is (route.access is not OPEN)


async def test_health_tells_strangers_little_and_the_operator_all(hal0: Operator) -> None:
    _, short = await hal0.over_tcp("GET", "/api/health")
    assert short.keys() == {"status", "version", "slots"}
    assert short["slots"]["primary"] == "offline"
    _, full = await hal0.call("GET", "/api/health")
    assert full["pid"] == 4711
    assert full["checks"][0] == {"name": "podman", "state": "ok", "message": "podman 4.3.1 answers", "fix": None}
    assert [(check["name"], check["state"]) for check in full["checks"]] == [
        *(("podman", "ok"), ("configuration", "ok"), ("history", "ok"), ("slots", "ok")),
    ]
    assert full["engine"] == {
        "reachable": True, "version": "4.3.1", "socket": "/run/podman/podman.sock", "own_service": False,
    }  # fmt: skip


async def test_a_local_program_may_infer(hal0: Operator) -> None:
    for host in ("localhost", f"127.0.0.1:{hal0.port}", "localhost:9999"):
        assert await chat(hal0.tcp, Host=host) == "request.invalid_json"
    assert await chat(hal0.tcp, Authorization="Bearer sk-anything") == "request.invalid_json"
    assert await chat(hal0.tcp, Origin=f"http://127.0.0.1:{hal0.port}") == "request.invalid_json"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "192.168.1.5:8080"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Forwarded": "for=10.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "https"},
        {"X-Real-IP": "127.0.0.1"},
    ],
)
async def test_signs_of_a_stranger_take_the_local_right_away(hal0: Operator, headers: dict[str, str]) -> None:
    assert await chat(hal0.tcp, **headers) == "auth.required"
    assert await chat(hal0.api, **headers) == "request.invalid_json"  # the socket needs no signs
    async with hal0.tcp.get("/v1/models", headers=headers) as response:
        assert response.status == 200


async def test_a_name_that_was_pointed_here_takes_the_local_right_away(hal0: Operator) -> None:
    """A page whose own name resolves to loopback (DNS rebinding) is asked under that name."""
    assert await chat(hal0.tcp, Host="hal0.example") == "access.host_not_allowed"
    assert await chat(hal0.api, Host="hal0.example") == "request.invalid_json"
    assert (await hal0.over_tcp("GET", "/v1/models", headers={"Host": "hal0.example"}))[0] == 200


@pytest.mark.parametrize("config", [{"access": {"trust_loopback": False}}, {"access": {"hosts": ["hal0.example"]}}])
async def test_the_configuration_can_end_the_local_right(
    paths: Paths, port_block: range, config: dict[str, Any]
) -> None:
    async with operator(paths, port_block, config=config) as hal0:
        assert await chat(hal0.tcp) == "auth.required"
        assert (await hal0.over_tcp("GET", "/api/health"))[0] == 200


async def test_a_loopback_that_proves_nothing_gives_nothing(paths: Paths, port_block: range) -> None:
    off = "hal0 runs in a podman container without host networking"
    async with operator(paths, port_block, change=lambda services: replace(services, keyless_off=off)) as hal0:
        status, body = await hal0.over_tcp("POST", CHAT)
        assert (status, body["error"]["code"]) == (401, "auth.required")
        assert off in body["error"]["message"]


async def test_two_host_headers_are_refused(hal0: Operator) -> None:
    async with raw(hal0.port) as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 400 " in (await client.head()).splitlines()[0]


async def test_a_stranger_is_refused_before_a_byte_of_its_body_is_asked_for(hal0: Operator) -> None:
    async with raw(hal0.port) as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        head = await asyncio.wait_for(client.head(), 5)
        assert b" 421 " in head.splitlines()[0]


async def test_only_its_owner_may_open_the_socket(hal0: Operator) -> None:
    assert hal0.socket.stat().st_mode & 0o777 == 0o600
    assert hal0.socket.parent.stat().st_mode & 0o077 == 0


async def test_a_proxy_that_hides_itself_is_known_by_its_account(
    hal0: Operator, tmp_path: Path, port_block: range
) -> None:
    """Without root nginx runs as whoever runs hal0, and then it speaks for that user."""
    port = port_block[21]
    async with bare_nginx(tmp_path / "nginx", port, hal0.port):
        through = f"http://127.0.0.1:{port}"
        expected = "auth.required" if os.geteuid() == 0 else "request.invalid_json"
        assert await chat(hal0.tcp, through + CHAT) == expected
        assert await chat(hal0.tcp) == "request.invalid_json"
        async with hal0.tcp.get(f"{through}/v1/models") as response:
            assert response.status == 200
        async with hal0.tcp.get(f"{through}/api/slots") as response:
            assert response.status == 401
