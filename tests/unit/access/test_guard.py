"""The access rule as a table: who may, who may not, and that every refusal says why."""

import pytest

from hal0.access.guard import OWNERLESS, BadKey, ByKey, BySession, Caller, Proof, decide
from hal0.access.principal import LOCAL as LOCAL_PROGRAM
from hal0.access.principal import NOBODY, Principal
from hal0.access.principal import OPERATOR as EVERYTHING
from hal0.errors import Hal0Error
from hal0.vocab import Access, Scope

OWN_UID = 500
LOCAL = Caller(peer="127.0.0.1", hosts=("127.0.0.1:8080",), peer_uid=1000, own_uid=OWN_UID)
LAN = LOCAL._replace(peer="192.168.1.7", hosts=("192.168.1.5:8080",), peer_uid=None)
OPERATOR = Caller(operator=True, hosts=("localhost",))


def refused(access: Access, caller: Caller, proof: Proof = None) -> Hal0Error:
    verdict = decide(access, caller, proof)
    assert isinstance(verdict, Hal0Error)
    assert verdict.message.startswith("cannot ")
    return verdict


def code(access: Access, caller: Caller, proof: Proof = None) -> str | None:
    verdict = decide(access, caller, proof)
    return verdict.code if isinstance(verdict, Hal0Error) else None


@pytest.mark.parametrize("caller", [LOCAL, LAN, OPERATOR, Caller()])
def test_an_open_route_is_for_everybody(caller: Caller) -> None:
    assert code(Access.OPEN, caller) is None


@pytest.mark.parametrize("access", list(Access))
def test_the_socket_may_everything(access: Access) -> None:
    assert decide(access, OPERATOR, BadKey()) is EVERYTHING


@pytest.mark.parametrize("access", [Access.READ, Access.ADMIN])
@pytest.mark.parametrize("caller", [LOCAL, LAN, LOCAL._replace(peer_uid=0)])
def test_tcp_gives_no_operator_rights_not_even_from_loopback(access: Access, caller: Caller) -> None:
    refusal = refused(access, caller)
    assert (refusal.code, refusal.status) == ("auth.required", 401)
    assert f"hal0ctl key create NAME --scope {access}." in refusal.hint


@pytest.mark.parametrize("access", list(Access))
def test_two_host_headers_are_refused_whoever_asks(access: Access) -> None:
    for caller in (LOCAL, OPERATOR):
        assert refused(access, caller._replace(hosts=("localhost", "localhost"))).status == 400


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hosts": ("localhost",)},
        {"hosts": ("LOCALHOST:9000",)},
        {"hosts": ("chat.localhost:8080",)},
        {"peer": "::1", "hosts": ("[::1]:8080",)},
        {"peer": "::ffff:127.0.0.1"},
        {"peer": "127.8.9.10", "hosts": ("127.8.9.10",)},
        {"origin": "http://127.0.0.1:8080"},
        {"origin": "HTTP://127.0.0.1:8080"},
        {"peer_uid": 0},
        {"peer_uid": OWN_UID},
        {"peer_uid": 1000},
        {"peer_uid": 100_000},
        {"peer_uid": None},
    ],
)
def test_a_program_of_this_machine_may_infer(changes: dict[str, object]) -> None:
    verdict = decide(Access.INFERENCE, LOCAL._replace(**changes))  # type: ignore[arg-type]
    assert verdict is LOCAL_PROGRAM


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peer": "192.168.1.7"}, "another machine"),
        ({"peer": "10.0.0.1", "hosts": ("localhost",)}, "another machine"),
        ({"peer": "::2"}, "another machine"),
        ({"peer": "::ffff:10.0.0.1"}, "another machine"),
        ({"peer": None}, "another machine"),
        ({"peer": ""}, "another machine"),
        ({"hosts": ("192.168.1.5:8080",)}, "Host"),
        ({"hosts": ("0.0.0.0:8080",)}, "Host"),
        ({"forwarded": "X-Forwarded-For"}, "X-Forwarded-For"),
        ({"origin": "http://evil.example"}, "Origin"),
        ({"origin": "http://127.0.0.1:3000"}, "Origin"),
        ({"origin": "http://localhost:8080"}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"origin": ""}, "Origin"),
        ({"origin": "file://127.0.0.1:8080"}, "Origin"),
        ({"peer_uid": 33}, "system account"),
        ({"peer_uid": 999}, "system account"),
        ({"peer_uid": 65534}, "system account"),
        ({"peer_uid": OWNERLESS}, "system account"),
        ({"keyless_off": "hal0 runs in a container"}, "hal0 runs in a container"),
    ],
)
def test_whatever_smells_of_a_stranger_needs_a_key(changes: dict[str, object], word: str) -> None:
    refusal = refused(Access.INFERENCE, LOCAL._replace(**changes))  # type: ignore[arg-type]
    assert refusal.code == "auth.required"
    assert word in refusal.message
    assert "hal0ctl key create NAME." in refusal.hint


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "localhost@evil.example", "evil.example#@localhost", "notlocalhost",
     "localhost:port", "[::1"],
)  # fmt: skip
def test_a_name_that_is_not_hal0s_costs_the_right_to_come_without_a_key(host: str) -> None:
    stranger = LOCAL._replace(hosts=(host,))
    assert code(Access.INFERENCE, stranger) == "access.host_not_allowed"
    assert code(Access.INFERENCE, LOCAL._replace(hosts=())) == "access.host_not_allowed"
    assert code(Access.READ, stranger) == "auth.required"
    assert code(Access.INFERENCE, stranger, KEYS[Scope.INFERENCE]) is None
    assert code(Access.ADMIN, stranger, KEYS[Scope.ADMIN]) is None


SCOPES = {
    Scope.INFERENCE: {Access.OPEN, Access.OWN, Access.INFERENCE},
    Scope.READ: {Access.OPEN, Access.OWN, Access.READ},
    Scope.ADMIN: set(Access),
}
KEYS = {scope: ByKey(Principal(frozenset({scope}), key_id="00000001")) for scope in Scope}
SESSION = Principal(frozenset(Scope), session_id="00000002")
PAGE = LAN._replace(origin="http://192.168.1.5:8080")
FOREIGN = LAN._replace(origin="http://192.168.1.5:3000")


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("caller", [LOCAL, LAN, LAN._replace(forwarded="Via"), LOCAL._replace(peer_uid=33)])
def test_a_key_gives_its_scope_and_nothing_else_wherever_it_comes_from(
    access: Access, scope: Scope, caller: Caller
) -> None:
    verdict = decide(access, caller, KEYS[scope])
    if access in SCOPES[scope]:
        assert verdict is KEYS[scope].principal
    else:
        assert code(access, caller, KEYS[scope]) == "auth.forbidden"


@pytest.mark.parametrize("access", [Access.INFERENCE, Access.OWN, Access.READ, Access.ADMIN])
def test_a_key_that_is_none_is_worse_than_no_key(access: Access) -> None:
    """Whoever revokes a key sees that it is dead, also on this machine."""
    assert code(access, LOCAL, BadKey()) == "auth.required"
    assert decide(Access.OPEN, LOCAL, BadKey()) is NOBODY


def test_a_page_of_elsewhere_may_call_where_the_configuration_says_so() -> None:
    key = KEYS[Scope.ADMIN]
    assert code(Access.INFERENCE, FOREIGN, key) == "access.origin_not_allowed"
    assert code(Access.INFERENCE, FOREIGN._replace(page_allowed=True), key) is None
    assert code(Access.INFERENCE, FOREIGN._replace(page_allowed=True)) == "auth.required"
    assert code(Access.INFERENCE, PAGE, key) is None
    assert decide(Access.OPEN, FOREIGN, key) is NOBODY


@pytest.mark.parametrize(
    ("caller", "csrf", "expected"),
    [
        (LAN, False, None),
        (PAGE, False, None),
        (FOREIGN, True, "access.origin_not_allowed"),
        (PAGE._replace(unsafe=True), True, None),
        (PAGE._replace(unsafe=True), False, "auth.forbidden"),
        (LAN._replace(unsafe=True), True, "access.origin_not_allowed"),
        (FOREIGN._replace(unsafe=True), True, "access.origin_not_allowed"),
        (FOREIGN._replace(unsafe=True, page_allowed=True), True, "access.origin_not_allowed"),
        (PAGE._replace(unsafe=True, origin="http://192.168.1.5"), True, "access.origin_not_allowed"),
        (PAGE._replace(unsafe=True, origin="null"), True, "access.origin_not_allowed"),
    ],
)
def test_a_session_is_everything_but_changes_only_by_hal0s_own_page(
    caller: Caller, csrf: bool, expected: str | None
) -> None:
    for access in (Access.INFERENCE, Access.READ, Access.ADMIN):
        assert code(access, caller, BySession(SESSION, csrf=csrf)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"peer": "10.1.2.3"}, None),
        ({"peer": "172.31.0.1"}, None),
        ({"peer": "::ffff:192.168.1.7"}, None),
        ({"peer": "fd00::7"}, None),
        ({"peer": "fe80::7%eth0"}, None),
        ({"hosts": ("box.local:8080",)}, None),
        ({"proxied": True}, None),
        ({"peer": "8.8.8.8"}, "auth.required"),
        ({"peer": "172.32.0.1"}, "auth.required"),
        ({"peer": "2001:db8::1"}, "auth.required"),
        ({"peer": None}, "auth.required"),
        ({"peer": "127.0.0.1", "peer_uid": 33}, "auth.required"),  # a proxy on this machine is not the private network
        ({"forwarded": "X-Forwarded-For"}, "auth.required"),
        ({"origin": "https://evil.example"}, "auth.required"),
        ({"hosts": ("evil.example",)}, "access.host_not_allowed"),
    ],
)
def test_the_private_network_needs_no_key_where_the_operator_says_so(
    changes: dict[str, object], expected: str | None
) -> None:
    caller = LAN._replace(open_lan=True, names=frozenset({"box.local"}))._replace(**changes)  # type: ignore[arg-type]
    assert code(Access.INFERENCE, caller) == expected
    assert code(Access.READ, caller) == code(Access.ADMIN, caller) == "auth.required"


def test_a_machine_that_tells_no_accounts_is_believed_by_the_other_signs() -> None:
    assert code(Access.INFERENCE, LOCAL._replace(peer_uid=None)) is None
    assert code(Access.INFERENCE, LOCAL._replace(peer_uid=None, forwarded="Via")) == "auth.required"
