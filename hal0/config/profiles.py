"""`[profiles.<name>]`: named sets of slot fields, and the ones that come with hal0."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic import Field, model_validator

from hal0.config import arguments
from hal0.config.base import ConfigModel, SomeCount, Text, Words, fault
from hal0.config.defaults import ModelDefaults
from hal0.config.slots import ContextSize, SlotConfig
from hal0.vocab import Device, ProviderName

# What a profile may say; a slot's own value wins over it.
PROFILE_FIELDS: Final = ("provider", "device", "image", "context_size", "parallel", "request_defaults")


class ProfileConfig(ConfigModel):
    provider: ProviderName | None = Field(None, description="Only for slots of this provider.")
    device: Device | None = Field(None, description="vulkan, rocm, cuda, cpu or npu.")
    image: Text | None = Field(None, description="Another image.")
    context_size: ContextSize | None = Field(None, description="Tokens.")
    parallel: SomeCount | None = Field(None, le=256, description="Requests at the same time inside the engine.")
    extra_args: Words = Field((), description="Engine arguments, before the slot's own.")
    request_defaults: dict[str, Any] = Field(default_factory=dict, description="Members that a request may leave out.")
    note: Text | None = Field(None, description="What it is for.")

    @model_validator(mode="after")
    def _arguments(self) -> Self:
        if refusals := arguments.refused(self.provider or ProviderName.LLAMACPP, self.extra_args):
            raise fault("; ".join(f"{refusal.flag} {refusal.reason}" for refusal in refusals))
        return self


def _profile(note: str, **fields: Any) -> ProfileConfig:
    return ProfileConfig(provider=ProviderName.LLAMACPP, note=note, **fields)


BUILTIN_PROFILES: Final[Mapping[str, ProfileConfig]] = MappingProxyType(
    {
        "vulkan": _profile("Any GPU with a Vulkan driver.", device=Device.VULKAN),
        "rocm": _profile("AMD GPUs with ROCm.", device=Device.ROCM),
        "cuda": _profile("NVIDIA GPUs.", device=Device.CUDA),
        "cpu": _profile("No GPU.", device=Device.CPU),
        "moe": _profile(
            "Mixture-of-experts models larger than the GPU: experts stay in RAM.", extra_args=("--cpu-moe",)
        ),
        "long-context": _profile(
            "Long documents: 128k tokens with a key-value cache of half the size.",
            context_size=131072,
            parallel=1,
            extra_args=("--flash-attn", "on", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0"),
        ),
        "low-memory": _profile(
            "Small machines: one request at a time, a short context, no prompt cache in RAM.",
            context_size=4096,
            parallel=1,
            extra_args=("--cache-ram", "0", "--flash-attn", "on", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0"),
        ),
    }
)


def laid_over(slot: SlotConfig, below: ProfileConfig | ModelDefaults) -> SlotConfig:
    """The slot with the values from below where it has none of its own; `device = "auto"` counts as none."""
    own = slot.model_fields_set - ({"device"} if slot.device is Device.AUTO else set())
    update: dict[str, Any] = {
        name: value
        for name in PROFILE_FIELDS
        if name not in own and name != "request_defaults" and (value := getattr(below, name, None)) is not None
    }
    update["extra_args"] = (*below.extra_args, *slot.extra_args)
    update["request_defaults"] = {**below.request_defaults, **slot.request_defaults}
    return slot.model_copy(update=update)
