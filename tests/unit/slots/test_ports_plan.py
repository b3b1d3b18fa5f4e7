"""Port leases, and what makes a container what it is."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerSpec, Mount, Publish
from hal0.errors import Hal0Error
from hal0.hardware.gpu import Nodes
from hal0.providers.base import SECRET_FILE
from hal0.slots.plan import (
    CONTEXT_CAP,
    CONTEXT_DEFAULT,
    Place,
    container_name,
    context_of,
    launch_of,
    resolve_device,
    spec_hash,
    spec_of,
)
from hal0.slots.ports import PortLeases
from hal0.vocab import Device, SlotName
from tests.fakes.engine import FakeEngine
from tests.fakes.provider import FakeHealth
from tests.fakes.world import FakeModel
from tests.unit.slots.lives import container

PRIMARY, EMBED = SlotName("primary"), SlotName("embed")


def test_the_first_port_belongs_to_primary_alone(port_block: range) -> None:
    leases = PortLeases(port_block)
    assert leases.lease(EMBED, "e-1", explicit=None) == port_block[1]
    assert leases.lease(PRIMARY, "p-1", explicit=None) == port_block[0]
    assert leases.lease(SlotName("embed-rerank"), "r-1", explicit=None) == port_block[5]


def test_a_stranger_on_primarys_port_is_told_and_passed_over(
    port_block: range, caplog: pytest.LogCaptureFixture
) -> None:
    leases = PortLeases(port_block)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port_block[0]))
        stranger.listen()
        assert leases.lease(PRIMARY, "p-1", explicit=None) == port_block[1]
    assert f"another program has port {port_block[0]}" in caplog.text


def test_a_lease_belongs_to_a_container_and_ends_with_it(port_block: range) -> None:
    leases = PortLeases(port_block)
    first = leases.lease(PRIMARY, "p-1", explicit=None)
    second = leases.lease(PRIMARY, "p-2", explicit=None)
    assert first != second
    leases.release("p-1")
    leases.release("p-1")
    assert leases.holders() == {second: "p-2"}
    assert leases.lease(PRIMARY, "p-3", explicit=None) == first
    leases.adopt(port_block[9], "old")
    assert leases.holders()[port_block[9]] == "old"


def test_between_two_containers_the_port_stays_with_the_slot(port_block: range) -> None:
    leases = PortLeases(port_block[:2])
    port = leases.lease(EMBED, "e-1", explicit=None)
    leases.keep("e-1", EMBED)
    with pytest.raises(Hal0Error) as none:
        leases.lease(SlotName("other"), "o-1", explicit=None)
    assert none.value.details["holders"] == {str(port): "slot embed"}
    with pytest.raises(Hal0Error, match="slot embed holds it"):
        leases.lease(SlotName("other"), "o-1", explicit=port)
    assert leases.lease(EMBED, "e-2", explicit=None) == port
    leases.keep("e-2", EMBED)
    assert leases.lease(EMBED, "e-3", explicit=port) == port
    leases.keep("e-3", EMBED)
    leases.let_go(EMBED)
    assert leases.holders() == {}


def test_a_kept_port_is_free_when_the_slot_takes_another(port_block: range) -> None:
    leases = PortLeases(port_block)
    kept = leases.lease(PRIMARY, "p-1", explicit=None, avoid=[port_block[0]])
    leases.keep("p-1", PRIMARY)
    assert leases.lease(PRIMARY, "p-2", explicit=None) == port_block[0], "its own comes first"
    assert leases.lease(EMBED, "e-1", explicit=None) == kept


def test_strangers_and_clashes_are_passed_over(port_block: range) -> None:
    leases = PortLeases(port_block)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port_block[1]))
        assert leases.lease(EMBED, "e-1", explicit=None, avoid=[port_block[2]]) == port_block[3]


def test_an_explicit_port_is_never_picked_anew(port_block: range) -> None:
    leases = PortLeases(port_block)
    assert leases.lease(EMBED, "e-1", explicit=port_block[7]) == port_block[7]
    with pytest.raises(Hal0Error, match="e-1 holds it") as held:
        leases.lease(PRIMARY, "p-1", explicit=port_block[7])
    assert held.value.code == "slot.port_taken"
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port_block[8]))
        with pytest.raises(Hal0Error, match="another program") as taken:
            leases.lease(PRIMARY, "p-1", explicit=port_block[8])
        assert taken.value.code == "slot.port_taken"


def test_no_free_port_names_the_holders(port_block: range) -> None:
    leases = PortLeases(port_block[:3])
    leases.lease(EMBED, "a-1", explicit=None)
    leases.lease(EMBED, "b-1", explicit=None)
    with pytest.raises(Hal0Error) as none:
        leases.lease(EMBED, "c-1", explicit=None)
    assert none.value.code == "slot.no_free_port"
    assert none.value.details["holders"] == {str(port_block[1]): "a-1", str(port_block[2]): "b-1"}


# -- the plan --

SPEC = ContainerSpec(
    name="n", image="i", argv=("a",), env={"A": "1"}, mounts=(Mount(Path("/m"), "/models/m"),), devices=("/dev/x",),
    groups=(44,), publish=Publish(20000, 8080), memory_bytes=1, labels={"l": "1"},
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"image": "j"},
        {"argv": ("a", "b")},
        {"env": {"A": "2"}},
        {"mounts": ()},
        {"mounts": (Mount(Path("/m"), "/models/m", read_only=False),)},
        {"devices": ()},
        {"groups": ()},
        {"memory_bytes": 2},
        {"pids_limit": 5},
    ],
    ids=str,
)
def test_what_makes_another_container(change: dict[str, Any]) -> None:
    assert spec_hash(replace(SPEC, **change)) != spec_hash(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "m"},
        {"labels": {}},
        {"publish": Publish(20001, 8080)},
        {"log_bytes": 5},
        {"devices": tuple(reversed(SPEC.devices))},
        {"mounts": (*SPEC.mounts, Mount(Path("/s/secret.7"), SECRET_FILE))},
    ],
    ids=str,
)
def test_what_makes_the_same_container(change: dict[str, Any]) -> None:
    assert spec_hash(replace(SPEC, **change)) == spec_hash(SPEC)


@pytest.mark.parametrize(
    ("wished", "trained", "tokens"),
    [(None, 4096, 4096), (None, 131072, CONTEXT_CAP), (None, None, CONTEXT_DEFAULT), (65536, 4096, 65536)],
)
def test_the_context(wished: int | None, trained: int | None, tokens: int) -> None:
    assert context_of(SlotConfig(context_size=wished), trained) == tokens


def test_auto_is_the_gpu_where_there_is_one() -> None:
    with_gpu = Place("0badcafe", devices={Device.VULKAN: Nodes(("/dev/dri/renderD128",), (44,))})
    provider = FakeHealth(FakeEngine())
    assert resolve_device(SlotConfig(), provider, with_gpu) is Device.VULKAN
    assert resolve_device(SlotConfig(), provider, Place("0badcafe")) is Device.CPU
    assert resolve_device(SlotConfig(device=Device.CPU), provider, with_gpu) is Device.CPU


def spec_for(place: Place, config: SlotConfig, **more: Any) -> ContainerSpec:
    provider, model = FakeHealth(FakeEngine()), FakeModel("one", (Path("/store/one.gguf"),))
    launch = launch_of(PRIMARY, config, model, provider, resolve_device(config, provider, place))
    box = container(3, port=20003)
    return spec_of(box, launch, provider, config, place, image_id="img", secret_file=Path("/s/secret"), **more)


def test_the_container_to_create() -> None:
    spec = spec_for(Place("0badcafe"), SlotConfig(memory_limit="8GiB", env={"X": "1"}, extra_args=("--flash-attn",)))
    assert spec.name == container_name("0badcafe", PRIMARY, 3)
    assert spec.publish == Publish(20003, 8080)
    assert spec.mounts[-1] == Mount(Path("/s/secret"), SECRET_FILE)
    assert spec.memory_bytes == 8 * 1024**3
    assert {key.rpartition(".")[2]: value for key, value in spec.labels.items()} == {
        "instance": "0badcafe", "slot": "primary", "generation": "3", "model": "one", "role": "slot",
        "spec": spec_hash(spec),
    }  # fmt: skip
    assert (spec.devices, spec.groups) == ((), ())


def test_devices_come_with_their_groups_and_a_network_publishes_nothing() -> None:
    place = Place("0badcafe", network="hal0", devices={Device.VULKAN: Nodes(("/dev/dri/renderD128",), (44, 105))})
    spec = spec_for(place, SlotConfig())
    assert (spec.devices, spec.groups) == (("/dev/dri/renderD128",), (44, 105))
    assert (spec.publish, spec.network) == (None, "hal0")
