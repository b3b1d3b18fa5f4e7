"""What addresses, host names and forwarding headers say."""

import pytest

from hal0.access.addresses import client_behind, forwarding_header, is_known_host, is_local_host, is_loopback, within
from hal0.api.access import _networks


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


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("box.example", True),
        ("BOX.example:8443", True),
        ("192.168.1.5:8080", True),
        ("[fd00::1]:8080", True),
        ("localhost", True),
        ("evil.example", False),
        ("box.example.evil.example", False),
        ("box.example@evil.example", False),
        ("", False),
    ],
)
def test_a_host_is_known_by_address_or_by_name(host: str, known: bool) -> None:
    assert is_known_host(host, {"box.example"}) is known


TRUSTED = _networks(("10.0.0.0/24", "127.0.0.1"))


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.168.1.7"], "192.168.1.7"),
        (["8.8.8.8, 192.168.1.7"], "192.168.1.7"),  # what stands before was written by the client itself
        (["192.168.1.7, 10.0.0.3"], "192.168.1.7"),
        (["8.8.8.8", "192.168.1.7", "10.0.0.3"], "192.168.1.7"),
        (["192.168.1.7, garbage"], None),
        (["10.0.0.3"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_client_is_the_last_one_that_a_trusted_proxy_did_not_vouch_for(
    values: list[str], client: str | None
) -> None:
    assert client_behind(values, TRUSTED) == client
    assert within("10.0.0.3", TRUSTED)
    assert not within("10.0.1.3", TRUSTED)
    assert not within(None, TRUSTED)
