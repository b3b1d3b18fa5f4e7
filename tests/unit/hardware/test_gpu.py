"""Device nodes: what a container is given for each device, and what it needs on a real create body."""

from pathlib import Path

import pytest

from hal0.engine.payload import HostProfile, create_body
from hal0.hardware.gpu import CDI_ALL, device_nodes
from hal0.vocab import Device
from tests.factories import container_spec


def machine(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('cdiVersion: "0.6.0"\nkind: nvidia.com/gpu\n' if "cdi" in name else "")
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), {}),
        (("dev/dri/card0",), {}),
        (("dev/dri/card0", "dev/dri/renderD128"), {Device.VULKAN: ("/dev/dri/card0", "/dev/dri/renderD128")}),
        (
            ("dev/dri/renderD128", "dev/kfd"),
            {Device.VULKAN: ("/dev/dri/renderD128",), Device.ROCM: ("/dev/kfd", "/dev/dri/renderD128")},
        ),
        (("dev/kfd",), {}),
        (("dev/accel/accel0", "dev/accel/accel1"), {Device.NPU: ("/dev/accel/accel0", "/dev/accel/accel1")}),
        (("etc/cdi/nvidia.yaml",), {Device.CUDA: (CDI_ALL,)}),
        (("var/run/cdi/nvidia.yaml",), {Device.CUDA: (CDI_ALL,)}),
    ],
)
def test_each_device_has_its_nodes(tmp_path: Path, names: tuple[str, ...], expected: dict[Device, object]) -> None:
    assert {device: nodes.paths for device, nodes in device_nodes(machine(tmp_path, *names)).items()} == expected


def test_nodes_come_with_the_groups_that_may_open_them(tmp_path: Path) -> None:
    root = machine(tmp_path, "dev/dri/renderD128")
    nodes = device_nodes(root)[Device.VULKAN]
    assert nodes.groups == ((tmp_path / "dev/dri/renderD128").stat().st_gid,)


def test_what_the_npu_works_on_may_be_pinned_as_far_as_this_host_grants() -> None:
    pinning, plain = container_spec(locks_memory=True), container_spec()
    assert create_body(pinning, HostProfile())["r_limits"] == [{"type": "memlock", "soft": -1, "hard": -1}]
    assert create_body(pinning, HostProfile(memlock=8 << 20))["r_limits"][0]["hard"] == 8 << 20
    assert "r_limits" not in create_body(plain, HostProfile(memlock=8 << 20))
