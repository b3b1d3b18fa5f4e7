"""Where hal0 runs, from recorded surroundings."""

from pathlib import Path

import pytest

from hal0.engine.place import read_place

ROUTES = "Iface\tDestination\tGateway\neth0\t00000000\t0100580A\neth0\t0000580A\t00000000\n"


def surroundings(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("iflink", "own"), [("7", True), ("2", False)])
def test_a_veth_on_the_way_out_is_a_network_of_its_own(tmp_path: Path, iflink: str, own: bool) -> None:
    root = surroundings(
        tmp_path,
        {
            ".dockerenv": "",
            "proc/1/environ": "PATH=/bin\0container=podman\0",
            "proc/net/route": ROUTES,
            "sys/class/net/eth0/iflink": f"{iflink}\n",
            "sys/class/net/eth0/ifindex": "2\n",
            "proc/self/mountinfo": "1 2 3\n",
        },
    )
    facts, mountinfo = read_place(root)
    assert facts.markers == {"/.dockerenv"}
    assert facts.container_variable == "podman"
    assert facts.own_network is own
    assert mountinfo == "1 2 3\n"


def test_nothing_to_read_is_a_plain_host(tmp_path: Path) -> None:
    facts, _ = read_place(tmp_path)
    assert (facts.markers, facts.container_variable, facts.own_network) == (frozenset(), "", False)
