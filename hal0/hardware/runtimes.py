"""Which devices of a machine slots can use, and why not the others. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hal0.hardware.cards import Gpu, Vendor
from hal0.hardware.survey import Survey
from hal0.vocab import Device

KFD: Final = "/dev/kfd"
# Kernel drivers whose GPUs Vulkan can use from a container; `nvidia` brings its own half of it through CDI.
_VULKAN_DRIVERS: Final = frozenset({"amdgpu", "radeon", "i915", "xe", "nvidia", "nouveau"})


class Readiness(StrEnum):
    READY = "ready"
    DENIED = "denied"  # it is there, and this user may not open it
    UNPREPARED = "unprepared"  # the hardware is there, a driver or node is not
    ABSENT = "absent"  # there is no such hardware


@dataclass(frozen=True, slots=True)
class Runtime:
    """One device of the vocabulary on one machine. `reason` is a sentence's second half; `nodes` its device files.

    `gpus` are the indexes of the GPUs that it reaches.
    """

    device: Device
    readiness: Readiness
    reason: str
    nodes: tuple[str, ...] = ()
    gpus: tuple[int, ...] = ()

    @property
    def ready(self) -> bool:
        return self.readiness is Readiness.READY


def of(survey: Survey) -> Mapping[Device, Runtime]:
    """Every device but `auto`, in the order in which they are offered."""
    return MappingProxyType({device: judge(survey) for device, judge in _JUDGES.items()})


def _vulkan(survey: Survey) -> Runtime:
    return _of_gpus(Device.VULKAN, survey, survey.machine.gpus, _vulkan_fault, absent="no GPU was found")


def _rocm(survey: Survey) -> Runtime:
    amd = [gpu for gpu in survey.machine.gpus if gpu.vendor is Vendor.AMD]
    return _of_gpus(Device.ROCM, survey, amd, _rocm_fault, absent="there is no AMD GPU", also=(KFD,))


def _cuda(survey: Survey) -> Runtime:
    nvidia = [gpu for gpu in survey.machine.gpus if gpu.vendor is Vendor.NVIDIA]
    return _of_gpus(Device.CUDA, survey, nvidia, _cuda_fault, absent="there is no NVIDIA GPU")


def _npu(survey: Survey) -> Runtime:
    xdna = next((npu for npu in survey.machine.npus if npu.xdna), None)
    if xdna is None:
        return Runtime(Device.NPU, Readiness.ABSENT, "there is no AMD XDNA NPU with a driver")
    if xdna.node is None:
        return Runtime(Device.NPU, Readiness.UNPREPARED, "the driver amdxdna made no device node")
    if (fault := _node_fault(survey, xdna.node)) is not None:
        return Runtime(Device.NPU, *fault)
    return Runtime(Device.NPU, Readiness.READY, f"AMD XDNA, firmware {xdna.firmware or 'unknown'}", (xdna.node,))


def _cpu(survey: Survey) -> Runtime:
    return Runtime(Device.CPU, Readiness.READY, survey.machine.cpu.model or "any processor")


_JUDGES: Final[Mapping[Device, Callable[[Survey], Runtime]]] = MappingProxyType(
    {Device.VULKAN: _vulkan, Device.ROCM: _rocm, Device.CUDA: _cuda, Device.NPU: _npu, Device.CPU: _cpu}
)

Fault = tuple[Readiness, str]


def _of_gpus(
    device: Device,
    survey: Survey,
    gpus: Iterable[Gpu],
    fault_of: Callable[[Survey, Gpu], Fault | None],
    *,
    absent: str,
    also: tuple[str, ...] = (),
) -> Runtime:
    """Ready when one of these GPUs is; else the first one's fault."""
    judged = [(gpu, fault_of(survey, gpu)) for gpu in gpus]
    ready = [gpu for gpu, fault in judged if fault is None]
    if ready:
        names = " and ".join(dict.fromkeys(gpu.name for gpu in ready))
        nodes = (*(node for node in also if survey.node(node)), *_dri(survey))
        return Runtime(device, Readiness.READY, names, nodes, tuple(gpu.index for gpu in ready))
    first = next((fault for _, fault in judged if fault is not None), (Readiness.ABSENT, absent))
    return Runtime(device, *first)


def _dri(survey: Survey) -> Iterator[str]:
    return (node.path for node in survey.nodes if node.path.startswith("/dev/dri/"))


def _vulkan_fault(survey: Survey, gpu: Gpu) -> Fault | None:
    if gpu.driver is None:
        return Readiness.UNPREPARED, f"no kernel driver has taken {gpu.name}"
    if gpu.driver not in _VULKAN_DRIVERS:
        return Readiness.UNPREPARED, f"the driver {gpu.driver} of {gpu.name} offers no Vulkan"
    return _node_fault(survey, gpu.render_node)


def _rocm_fault(survey: Survey, gpu: Gpu) -> Fault | None:
    if gpu.driver != "amdgpu":
        return Readiness.UNPREPARED, f"{gpu.name} has not the driver amdgpu"
    if (fault := _node_fault(survey, KFD) or _node_fault(survey, gpu.render_node)) is not None:
        return fault
    if survey.gfx and gpu.render_node not in survey.gfx:
        return Readiness.UNPREPARED, f"the kernel offers no compute on {gpu.name}"
    return None


def _cuda_fault(survey: Survey, gpu: Gpu) -> Fault | None:
    if gpu.driver != "nvidia":
        return Readiness.UNPREPARED, f"{gpu.name} has the driver {gpu.driver or 'none'}, not NVIDIA's own"
    if not survey.nvidia_cdi:
        return Readiness.UNPREPARED, "podman is not told of it: no CDI specification names nvidia.com/gpu"
    return None


def _node_fault(survey: Survey, path: str | None) -> Fault | None:
    node = survey.node(path)
    if node is None:
        return Readiness.UNPREPARED, f"there is no {path}" if path else "the GPU has no render node"
    return None if node.usable else (Readiness.DENIED, f"this user may not open {path} (group {node.group})")
