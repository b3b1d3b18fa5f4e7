"""Profiles and providers as the operator sees them."""

from typing import Any

from pydantic import ConfigDict, Field

from hal0.vocab import Capability, Device, ProviderName
from hal0.wire.base import View


class ProfileView(View):
    """Null: the profile says nothing of it. `used_by` are the slots that are started by it."""

    name: str
    builtin: bool
    note: str | None
    provider: ProviderName | None
    device: Device | None
    image: str | None
    context_size: int | None
    parallel: int | None
    extra_args: list[str]
    request_defaults: dict[str, Any]
    used_by: list[str]


class ProfilesView(View):
    items: list[ProfileView]


class ProfileChange(View):
    """The fields of a `[profiles.<name>]` table, which the configuration itself checks; null takes one away."""

    model_config = ConfigDict(extra="allow")

    like: str | None = Field(None, description="Begin as a copy of this profile.")


class ProfileGoneView(View):
    name: str


class ProviderDeviceView(View):
    """`image` is the key in `hal0ctl image list`; `here`: it is in podman's store."""

    device: Device
    image: str
    here: bool


class ProviderView(View):
    """An engine: what it can serve, on what, and who uses it. `tags`: models that it knows by names of its own."""

    name: ProviderName
    capabilities: list[Capability]
    devices: list[ProviderDeviceView]
    slots: list[str]
    at_once: int | None
    tags: list[str]


class ProvidersView(View):
    items: list[ProviderView]
