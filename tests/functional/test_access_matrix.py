"""The access matrix over real sockets: every route, with every kind of proof, from every place."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from hal0.access.keyring import KeyDraft
from hal0.access.keys import csrf_of
from hal0.api.access import CSRF_HEADER
from hal0.api.route import Route
from hal0.api.routes import ROUTES
from hal0.paths import Paths
from hal0.vocab import Access, Scope
from tests.factories import INSTANCE
from tests.functional.bare_nginx import bare_nginx
from tests.functional.operator_app import Operator, operator
from tests.functional.test_api_access import NO_JSON, sample
from tests.guards import own_addresses

IN: Final = "in"
NEEDS: Final = "auth.required"
SCOPE: Final = "auth.forbidden"
PAGE: Final = "access.origin_not_allowed"
HOST: Final = "access.host_not_allowed"
REFUSALS: Final = {NEEDS, SCOPE, PAGE, HOST, "auth.rate_limited"}
PROOFS: Final = ("none", "wrong", "revoked", "inference", "read", "admin", "cookie")
PLACES: Final = ("socket", "loopback", "nginx", "lan", "foreign host", "foreign page")

OPEN, INFER, OWN, READ, ADMIN = Access.OPEN, Access.INFERENCE, Access.OWN, Access.READ, Access.ADMIN
BY_SCOPE: Final = {
    "inference": {OPEN: IN, INFER: IN, OWN: IN, READ: SCOPE, ADMIN: SCOPE},
    "read": {OPEN: IN, INFER: SCOPE, OWN: IN, READ: IN, ADMIN: SCOPE},
    "admin": {OPEN: IN, INFER: IN, OWN: IN, READ: IN, ADMIN: IN},
}
NOTHING: Final = {OPEN: IN, INFER: NEEDS, OWN: NEEDS, READ: NEEDS, ADMIN: NEEDS}
STRANGE: Final = {OPEN: IN, INFER: PAGE, OWN: PAGE, READ: PAGE, ADMIN: PAGE}
# Without a key: what each place gives.
KEYLESS: Final = {
    "loopback": NOTHING | {INFER: IN},
    # Without root nginx runs as whoever runs hal0, and then it speaks for that user.
    "nginx": NOTHING if os.geteuid() == 0 else NOTHING | {INFER: IN},
    "lan": NOTHING,
    "foreign host": NOTHING | {INFER: HOST},
    "foreign page": NOTHING,
}


def expected(route: Route, place: str, proof: str) -> str:
    """The table, by what a route asks for."""
    if (route.method, route.path) == ("POST", "/api/session"):
        # Nobody is signed in by a page of elsewhere, and the cookie's rows say that they come from a page.
        elsewhere = place == "foreign page" or (proof == "cookie" and place in ("socket", "nginx"))
        return PAGE if elsewhere else IN
    if place == "socket":
        return IN
    if proof in ("wrong", "revoked"):
        return NOTHING[route.access]
    if proof == "none":
        return KEYLESS[place][route.access]
    if place == "foreign page":
        return STRANGE[route.access]
    if proof == "cookie":
        # A bare proxy asks under another host than the page's: nothing can tell that page from a foreign one.
        foreign = place == "nginx" and route.method != "GET" and route.access is not OPEN
        return PAGE if foreign else IN
    return BY_SCOPE[proof][route.access]


@dataclass
class Matrix:
    hal0: Operator
    bases: dict[str, str]
    keys: dict[str, str]

    def base(self, place: str) -> str:
        return self.bases.get(place, self.bases["loopback"])

    async def cookie(self) -> str:
        _, cookie = await self.hal0.services.access.sessions.open(None, None)
        return cookie

    async def headers(self, route: Route, place: str, proof: str) -> dict[str, str]:
        headers: dict[str, str] = {}
        if place == "foreign host":
            headers["Host"] = "evil.example"
        if proof == "cookie":
            cookie = await self.cookie()
            headers |= {"Cookie": f"{SESSION}={cookie}", CSRF_HEADER: csrf_of(cookie)}
            if route.method != "GET":
                headers["Origin"] = f"http://{headers.get('Host') or self.base(place).removeprefix('http://')}"
        elif proof != "none":
            # Both spellings, in turns: which one a client uses must not matter.
            use_bearer = len(route.path) % 2
            headers |= (
                {"Authorization": f"Bearer {self.keys[proof]}"} if use_bearer else {"x-api-key": self.keys[proof]}
            )
        if place == "foreign page":
            headers["Origin"] = "http://127.0.0.1:9"  # same site, other port: the cookie comes along
        return headers

    async def outcome(self, route: Route, place: str, proof: str) -> str:
        session = self.hal0.api if place == "socket" else self.hal0.tcp
        url = sample(route.path) if place == "socket" else self.base(place) + sample(route.path)
        body = None if route.method == "GET" else NO_JSON
        headers = await self.headers(route, place, proof)
        async with session.request(route.method, url, data=body, headers=headers) as response:
            if response.status < 400 or response.status == 404:
                return IN
            code = str((await response.json())["error"]["code"])
            return code if code in REFUSALS else IN


SESSION: Final = f"hal0_{INSTANCE}"


@pytest.fixture
async def matrix(paths: Paths, port_block: range, tmp_path: Path) -> AsyncIterator[Matrix]:
    async with served(paths, port_block, tmp_path) as found:
        yield found


@asynccontextmanager
async def served(paths: Paths, ports: range, folder: Path) -> AsyncIterator[Matrix]:
    assert own_addresses(), "this machine has only loopback; as root: ip address add 198.18.0.1/32 dev lo"
    lan = own_addresses()[0]
    async with operator(paths, ports, also=[lan]) as hal0, bare_nginx(folder / "nginx", ports[21], hal0.port):
        keyring = hal0.services.access.keyring
        keys = {"wrong": f"hal0_00000000_{'0' * 64}"}
        for scope in Scope:
            _, keys[scope.value] = await keyring.create(KeyDraft(label=scope.value, scopes=(scope,)))
        _, keys["revoked"] = await keyring.create(KeyDraft(label="revoked", scopes=(Scope.ADMIN,)))
        await keyring.revoke("revoked")
        bases = {
            "loopback": f"http://127.0.0.1:{hal0.port}",
            "nginx": f"http://127.0.0.1:{ports[21]}",
            "lan": f"http://{lan}:{hal0.port}",
        }
        yield Matrix(hal0, bases, keys)


async def test_every_route_with_every_proof_from_every_place(matrix: Matrix) -> None:
    wrong = []
    # A sign-out and a revocation come last: they change what the others stand on.
    for route in sorted(ROUTES, key=lambda route: route.method == "DELETE"):
        for place in PLACES:
            for proof in PROOFS:
                found, wanted = await matrix.outcome(route, place, proof), expected(route, place, proof)
                limited = found == "auth.rate_limited" and wanted == NEEDS and proof in ("wrong", "revoked")
                if found != wanted and not limited:
                    wrong.append(f"{route.method} {route.path} from {place} with {proof}: {found}, not {wanted}")
    assert wrong == []
