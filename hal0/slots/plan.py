"""From configuration and model to the container to create: the launch plan and its hash. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerSpec, Mount, Publish
from hal0.hardware.gpu import Nodes
from hal0.lib import jsonio
from hal0.providers.base import SECRET_FILE, Launch, Provider
from hal0.slots.adopt import LABEL_GENERATION, LABEL_INSTANCE, LABEL_MODEL, LABEL_ROLE, LABEL_SLOT, LABEL_SPEC
from hal0.slots.record import Container
from hal0.vocab import Capability, Device, SlotName

_NO_NODES: Final = Nodes()

# Without a wish of the operator a context stays within what a home machine's memory takes.
CONTEXT_CAP: Final = 32768
# For models whose file does not say how long a context they were trained on.
CONTEXT_DEFAULT: Final = 4096


class Model(Protocol):
    """What the plan needs of a registry entry."""

    @property
    def id(self) -> str: ...
    @property
    def files(self) -> tuple[Path, ...]: ...
    @property
    def format(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def directory(self) -> Path | None: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def context_length(self) -> int | None: ...
    @property
    def capabilities(self) -> frozenset[Capability]: ...
    @property
    def mmproj(self) -> Path | None: ...
    @property
    def demo(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where slots live on this machine: the instance, how they are reached, and what devices there are."""

    instance: str
    network: str | None = None  # a network of hal0's own, when hal0 cannot reach published ports
    devices: Mapping[Device, Nodes] = field(default_factory=lambda: MappingProxyType({}))

    def nodes(self, device: Device) -> Nodes:
        return self.devices.get(device, _NO_NODES)


def resolve_device(config: SlotConfig, provider: Provider, place: Place) -> Device:
    """The operator's word; for `auto` the best that the provider can use here."""
    if config.device is not Device.AUTO:
        return config.device
    return next((device for device in provider.devices if device in place.devices), provider.devices[-1])


def context_of(config: SlotConfig, trained: int | None) -> int:
    """Tokens: the operator's number, else what the model was trained on, up to the cap."""
    if config.context_size is not None:
        return config.context_size
    return min(trained or CONTEXT_DEFAULT, CONTEXT_CAP)


def launch_of(slot: SlotName, config: SlotConfig, model: Model, provider: Provider, device: Device) -> Launch:
    return Launch(
        slot=slot,
        model=model.id,
        files=model.files,
        mmproj=model.mmproj,
        capabilities=model.capabilities,
        device=device,
        gpu_index=config.gpu_index,
        context_size=context_of(config, model.context_length),
        parallel=config.parallel,
        extra_args=config.extra_args,
        env=config.env,
        port=provider.container_port,
        demo=model.demo,
        directory=model.directory,
        architecture=model.architecture,
    )


def spec_of(
    container: Container,
    launch: Launch,
    provider: Provider,
    config: SlotConfig,
    place: Place,
    *,
    image_id: str,
    secret_file: Path,
) -> ContainerSpec:
    """The container to create, labels and all."""
    nodes = place.nodes(launch.device)
    spec = ContainerSpec(
        name=container.name,
        image=image_id,
        argv=tuple(provider.start_cmd(launch)),
        env=provider.build_env(launch),
        mounts=(*provider.mounts(launch), Mount(secret_file, SECRET_FILE)),
        devices=nodes.paths,
        groups=nodes.groups,
        user=provider.user,
        locks_memory=launch.device is Device.NPU,  # the driver pins what the NPU works on
        publish=_publish(container, provider, place),
        network=place.network or "bridge",
        memory_bytes=config.memory_limit,
    )
    labels = {
        LABEL_INSTANCE: place.instance,
        LABEL_SLOT: str(launch.slot),
        LABEL_GENERATION: str(container.generation),
        LABEL_MODEL: launch.model,
        LABEL_ROLE: "slot",
        LABEL_SPEC: spec_hash(spec),
    }
    return replace(spec, labels=labels)


def spec_hash(spec: ContainerSpec) -> str:
    """What makes a container what it is.

    Not part of it: name, labels, generation, host port, log settings, secret, and the user, who follows the files.
    """
    parts = {
        "image": spec.image,
        "argv": list(spec.argv),
        "env": sorted(spec.env.items()),
        "mounts": sorted((str(m.source), m.target, m.read_only) for m in spec.mounts if m.target != SECRET_FILE),
        "devices": sorted(spec.devices),
        "groups": sorted(spec.groups),
        **({"locks_memory": True} if spec.locks_memory else {}),
        "memory": spec.memory_bytes,
        "pids": spec.pids_limit,
    }
    return hashlib.sha256(jsonio.dumps(parts)).hexdigest()[:16]


def _publish(container: Container, provider: Provider, place: Place) -> Publish | None:
    if place.network is not None or container.port is None:
        return None
    return Publish(container.port, provider.container_port)


def container_name(instance: str, slot: SlotName, generation: int) -> str:
    """For people; never parsed."""
    return f"hal0-{instance}-{slot}-{generation}"
