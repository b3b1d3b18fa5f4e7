"""Whether an image and a device fit this machine: looked at before a start, in words that a start's log never has."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from hal0.config.slots import SlotConfig
from hal0.engine.manifest import ImageEntry
from hal0.errors import Hal0Error
from hal0.hardware import runtimes
from hal0.hardware.runtimes import Readiness
from hal0.hardware.survey import Survey
from hal0.lib.aside import Aside
from hal0.vocab import Device

_LOOK_S: Final = 3.0  # it takes some milliseconds, unless a driver hangs
# Who names the engine's own device by hand (a software Vulkan, a GPU that the kernel does not list) knows better.
_BY_HAND: Final[Mapping[Device, str]] = MappingProxyType(
    {
        Device.VULKAN: "GGML_VK_VISIBLE_DEVICES",
        Device.ROCM: "HIP_VISIBLE_DEVICES",
        Device.CUDA: "CUDA_VISIBLE_DEVICES",
    }
)


class Fits(Protocol):
    """What a start asks first."""

    async def check(self, config: SlotConfig, image: str, device: Device) -> None:
        """`device` is resolved, `image` a manifest's key or a reference. Raises image.unfit or device.*."""
        ...


class Fitting:
    """The manifest's images against the machine as `look` finds it (blocking; one that hangs holds nobody up).

    `instead_of` gives the reference that the user wants in the place of a key's image: of that nothing is declared.
    """

    def __init__(
        self,
        manifest: Mapping[str, ImageEntry],
        look: Callable[[], Survey],
        instead_of: Callable[[str], str | None] = lambda _key: None,
    ) -> None:
        self._manifest = manifest
        self._looking = Aside(look)
        self._instead_of = instead_of

    async def check(self, config: SlotConfig, image: str, device: Device) -> None:
        """Implements `Fits`. What hal0 chose by itself (`auto`) it has looked at before."""
        survey, entry = await self._looking.within(_LOOK_S), self._manifest.get(image)
        if survey is None:  # the start itself shows what works
            return
        fault = None if entry is None or self._instead_of(image) else unfit(entry, device, survey)
        chosen = config.device is Device.AUTO and device is not Device.NPU  # FLM has no other choice
        if fault is None and not chosen and _BY_HAND.get(device, "") not in config.env:
            fault = unready(device, survey)
        if fault is not None:
            raise fault


def unfit(entry: ImageEntry, device: Device, survey: Survey) -> Hal0Error | None:
    """image.unfit when the image does not use this device, or needs more of the processor than it has. Pure."""
    if device not in entry.devices:
        able = " or ".join(entry.devices)
        return Hal0Error(
            "image.unfit",
            f"cannot run image {entry.key} on {device}: it runs on {able}",
            details={"image": entry.key, "device": device, "devices": list(entry.devices)},
            param="device",
        )
    flags = survey.machine.cpu.flags
    missing = sorted(set(entry.cpu_flags) - flags) if flags else []
    if missing:
        return Hal0Error(
            "image.unfit",
            f"cannot run image {entry.key}: the processor has no {' and no '.join(missing)}",
            details={"image": entry.key, "cpu_flags": missing},
            hint="Use another image, or, in a virtual machine, give it the host's processor type.",
        )
    return None


def unready(device: Device, survey: Survey) -> Hal0Error | None:
    """device.missing or device.permission when slots cannot run on this device here. Pure."""
    runtime = runtimes.of(survey).get(device)
    if runtime is None or runtime.ready:
        return None
    code = "device.permission" if runtime.readiness is Readiness.DENIED else "device.missing"
    return Hal0Error(
        code,
        f"cannot run on {device}: {runtime.reason}",
        details={"device": device, "readiness": runtime.readiness},
        hint="hal0ctl hw show",
        param="device",
    )
