"""The whole configuration: every section, and the five built-in slots that are always there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from hal0.config.access import AccessConfig
from hal0.config.base import ConfigModel, fault
from hal0.config.dispatch import DispatchConfig
from hal0.config.engine import EngineConfig
from hal0.config.images import ImagesConfig
from hal0.config.memory import MemoryConfig
from hal0.config.models import ModelsConfig
from hal0.config.openwebui import OpenWebUIConfig
from hal0.config.profiles import BUILTIN_PROFILES, ProfileConfig, laid_over
from hal0.config.server import ServerConfig
from hal0.config.slots import SlotConfig
from hal0.config.updates import UpdatesConfig
from hal0.config.upstreams import UpstreamConfig
from hal0.vocab import BUILTIN_SLOTS, PRIMARY_PORT, SLOT_NAME, ProviderName, SlotName

# What makes a built-in slot what it is; everything else is SlotConfig's defaults.
BUILTIN_PROVIDERS: Final[Mapping[SlotName, ProviderName]] = MappingProxyType(
    dict(
        zip(
            BUILTIN_SLOTS,
            (
                ProviderName.LLAMACPP,
                ProviderName.LLAMACPP,
                ProviderName.MOONSHINE,
                ProviderName.KOKORO,
                ProviderName.COMFYUI,
            ),
            strict=True,
        )
    )
)
TABLE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


def _slot_name(name: str) -> SlotName:
    if not SLOT_NAME.match(name):
        raise fault(
            f"{name!r} is not a slot name", allowed="a letter, then letters, digits, _ or -; at most 32, lower case"
        )
    return SlotName(name)


def _own_profile(name: str) -> str:
    if name in BUILTIN_PROFILES:
        raise fault(f"the profile {name!r} comes with hal0 and is read-only", allowed="another name")
    return name


Name = Annotated[str, StringConstraints(pattern=TABLE_NAME.pattern.replace(r"\Z", "$"))]


class RootConfig(ConfigModel):
    """All of hal0.toml. `slots` always holds the five built-ins, first and in their order."""

    server: ServerConfig = Field(ServerConfig(), description="Where hal0 listens and how it ends.")
    engine: EngineConfig = Field(EngineConfig(), description="How hal0 reaches podman, what slots may take together.")
    slots: dict[Annotated[str, AfterValidator(_slot_name)], SlotConfig] = Field(
        default_factory=dict, description="Named places, each for one model."
    )
    profiles: dict[Annotated[Name, AfterValidator(_own_profile)], ProfileConfig] = Field(
        default_factory=dict, description="Named sets of slot fields."
    )
    upstreams: dict[Name, UpstreamConfig] = Field(default_factory=dict, description="Servers elsewhere.")
    models: ModelsConfig = Field(ModelsConfig(), description="Where AI models are kept and how they get there.")
    images: ImagesConfig = Field(ImagesConfig(), description="Other images than the manifest's.")
    dispatch: DispatchConfig = Field(DispatchConfig(), description="How a request finds its slot.")
    memory: MemoryConfig = Field(MemoryConfig(), description="The memory that agents keep through /mcp/memory.")
    access: AccessConfig = Field(AccessConfig(), description="Who may call hal0 without a key.")
    openwebui: OpenWebUIConfig = Field(OpenWebUIConfig(), description="The optional chat page beside hal0.")
    updates: UpdatesConfig = Field(UpdatesConfig(), description="Where new image manifests come from.")

    @field_validator("slots", mode="before")
    @classmethod
    def _builtins(cls, slots: object) -> object:
        if not isinstance(slots, Mapping):
            return slots
        merged: dict[Any, Any] = {name: slots.get(name, {}) for name in BUILTIN_SLOTS}
        merged |= {name: table for name, table in slots.items() if name not in merged}
        for name, provider in BUILTIN_PROVIDERS.items():
            if isinstance(merged[name], Mapping):
                merged[name] = {"provider": provider, **merged[name]}
        return merged

    def effective(self, name: str) -> SlotConfig:
        """The slot with its profile applied. Raises KeyError for a slot that is not configured."""
        slot = self.slots[name]
        profile = self.profile(slot.profile) if slot.profile else None
        return laid_over(slot, profile) if profile else slot

    def profile(self, name: str) -> ProfileConfig | None:
        """A profile of the user's or one that comes with hal0."""
        return BUILTIN_PROFILES.get(name) or self.profiles.get(name)


@dataclass(frozen=True, slots=True)
class Clash:
    """Values that are right alone and wrong together; `loc` is the key path of the later one."""

    loc: tuple[str, ...]
    message: str
    allowed: str | None = None


def clashes(root: RootConfig) -> Iterator[Clash]:
    """Everything between tables that cannot be so."""
    for name, slot in root.slots.items():
        if slot.profile and root.profile(slot.profile) is None:
            known = ", ".join([*BUILTIN_PROFILES, *root.profiles])
            yield Clash(("slots", name, "profile"), f"there is no profile {slot.profile!r}", known)
        if slot.upstream and slot.upstream not in root.upstreams:
            known = ", ".join(root.upstreams) or "a table [upstreams.<name>]"
            yield Clash(("slots", name, "upstream"), f"there is no upstream {slot.upstream!r}", known)
        if slot.port == PRIMARY_PORT and name != BUILTIN_SLOTS[0]:
            yield Clash(
                ("slots", name, "port"), f"port {PRIMARY_PORT} belongs to the slot primary", "another slot port"
            )
    yield from _doubled_ports(root)
    yield from _doubled_names(root)


def _doubled_ports(root: RootConfig) -> Iterator[Clash]:
    holders: dict[int, str] = {}
    for name, slot in root.slots.items():
        if slot.port and (holder := holders.setdefault(slot.port, name)) != name:
            yield Clash(("slots", name, "port"), f"port {slot.port} is also the slot {holder}'s", "another slot port")


def _doubled_names(root: RootConfig) -> Iterator[Clash]:
    holders = {name: name for name in root.slots}
    for name, slot in root.slots.items():
        for alias in slot.aliases:
            if (holder := holders.setdefault(alias, name)) != name:
                yield Clash(("slots", name, "aliases"), f"{alias!r} already means the slot {holder}", "another alias")
