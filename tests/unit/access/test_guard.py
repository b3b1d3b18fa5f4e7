"""The access rule as a table: who may, who may not, and that every refusal says why."""

import pytest

from hal0.access.guard import OWNERLESS, Caller, decide, forwarding_header, is_local_host, is_loopback
from hal0.vocab import Access

OWN_UID = 500
LOCAL = Caller(peer="127.0.0.1", hosts=("127.0.0.1:8080",), peer_uid=1000, own_uid=OWN_UID)
LAN = LOCAL._replace(peer="192.168.1.7", hosts=("192.168.1.5:8080",), peer_uid=None)
OPERATOR = Caller(operator=True, hosts=("localhost",))


def code(access: Access, caller: Caller) -> str | None:
    refusal = decide(access, caller)
    return None if refusal is None else refusal.code


@pytest.mark.parametrize("caller", [LOCAL, LAN, OPERATOR, Caller()])
def test_an_open_route_is_for_everybody(caller: Caller) -> None:
    assert decide(Access.OPEN, caller) is None


@pytest.mark.parametrize("access", list(Access))
def test_the_socket_may_everything(access: Access) -> None:
    assert decide(access, OPERATOR) is None


@pytest.mark.parametrize("access", [Access.READ, Access.ADMIN])
@pytest.mark.parametrize("caller", [LOCAL, LAN, LOCAL._replace(peer_uid=0)])
def test_tcp_gives_no_operator_rights_not_even_from_loopback(access: Access, caller: Caller) -> None:
    refusal = decide(access, caller)
    assert refusal is not None
    assert (refusal.code, refusal.status) == ("auth.required", 401)
    assert "hal0ctl" in refusal.hint


@pytest.mark.parametrize("access", list(Access))
def test_two_host_headers_are_refused_whoever_asks(access: Access) -> None:
    for caller in (LOCAL, OPERATOR):
        refusal = decide(access, caller._replace(hosts=("localhost", "localhost")))
        assert refusal is not None
        assert refusal.status == 400


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
    assert decide(Access.INFERENCE, LOCAL._replace(**changes)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peer": "192.168.1.7"}, "another machine"),
        ({"peer": "10.0.0.1", "hosts": ("localhost",)}, "another machine"),
        ({"peer": "::2"}, "another machine"),
        ({"peer": "::ffff:10.0.0.1"}, "another machine"),
        ({"peer": None}, "another machine"),
        ({"peer": ""}, "another machine"),
        ({"hosts": ()}, "Host"),
        ({"hosts": ("",)}, "Host"),
        ({"hosts": ("evil.example",)}, "Host"),
        ({"hosts": ("localhost.evil.example",)}, "Host"),
        ({"hosts": ("localhost@evil.example",)}, "Host"),
        ({"hosts": ("evil.example#@localhost",)}, "Host"),
        ({"hosts": ("notlocalhost",)}, "Host"),
        ({"hosts": ("localhost:port",)}, "Host"),
        ({"hosts": ("192.168.1.5:8080",)}, "Host"),
        ({"hosts": ("0.0.0.0:8080",)}, "Host"),
        ({"hosts": ("[::1",)}, "Host"),
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
    refusal = decide(Access.INFERENCE, LOCAL._replace(**changes))  # type: ignore[arg-type]
    assert refusal is not None
    assert refusal.code == "auth.required"
    assert refusal.message.startswith("cannot ")
    assert word in refusal.message


def test_a_machine_that_tells_no_accounts_is_believed_by_the_other_signs() -> None:
    assert code(Access.INFERENCE, LOCAL._replace(peer_uid=None)) is None
    assert code(Access.INFERENCE, LOCAL._replace(peer_uid=None, hosts=("evil.example",))) == "auth.required"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Forwarded", True),
        ("via", True),
        ("X-Real-IP", True),
        ("x-forwarded-for", True),
        ("X-Forwarded-Anything", True),
        ("X-Forward", False),
        ("Authorization", False),
    ],
)
def test_forwarding_headers_are_known_by_name(name: str, found: bool) -> None:
    assert forwarding_header(["Host", name]) == (name if found else None)


def test_addresses_that_are_none_are_not_loopback() -> None:
    assert not is_loopback("localhost")
    assert not is_loopback("127.0.0.1:80")
    assert not is_local_host("127.0.0.1 ")
