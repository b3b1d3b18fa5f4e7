"""Which addresses are called: never this machine's surroundings, whatever they are written as."""

import pytest

from hal0.outbound.rules import refusal

NEVER = [
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "255.255.255.255"),
    *("240.0.0.1", "ff02::1", "::ffff:169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe", "::a9fe:a9fe"),
    *("64:ff9b:1::a9fe:a9fe", "2001:0:a9fe:a9fe::1", "", "localhost", "2130706433", "0x7f.1", "127.1"),
]
PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "fec0::1"),
    *("192.0.2.1", "198.18.0.1", "2001:db8::1", "::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b::a00:1"),
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "64:ff9b::808:808", "172.32.0.1", "100.128.0.1"]


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("private", [True, False])
def test_some_are_never_called(address: str, private: bool) -> None:
    assert refusal(address, private=private) is not None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ones_only_where_that_is_meant(address: str) -> None:
    assert refusal(address, private=False) is not None
    assert refusal(address, private=True) is None


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("private", [True, False])
def test_public_ones_are_called(address: str, private: bool) -> None:
    assert refusal(address, private=private) is None
