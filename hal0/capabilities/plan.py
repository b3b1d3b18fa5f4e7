"""What turning a card's row on takes: which fields are written, which model is loaded, or why it cannot be. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hal0.capabilities.cards import Child, Choice
from hal0.config.diff import RELOADS
from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error
from hal0.models.absent import Absent
from hal0.models.entry import ModelEntry
from hal0.slots.ports import PREFERRED
from hal0.vocab import Device, ProviderName
from hal0.wire.capabilities import SelectRequest

_GB: Final = 1e9

# One that can be fetched is known, too. Raises model.not_found or model.not_downloaded.
Require = Callable[[str], ModelEntry | Absent]


@dataclass(frozen=True, slots=True)
class Plan:
    """`fields` are those that change. `restarts`: a container that runs would be another one afterwards."""

    child: Child
    fields: Mapping[str, Any]
    model: str
    creates: bool
    restarts: bool
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Now:
    """The row as it stands: its slot's table (None: not configured) and the model that the slot has or would load."""

    config: SlotConfig | None
    model: str | None


def plan(
    child: Child, asked: SelectRequest, now: Now, offered: Sequence[Choice], installed: Sequence[str], require: Require
) -> Plan:
    """`installed` are the models on disk that can do it.

    Raises config.invalid, image.*, device.*, slot.no_model, model.* or dispatch.capability_mismatch: then nothing has
    been touched.
    """
    if child.rides:
        raise Hal0Error(
            "slot.illegal_transition",
            f"cannot switch {child.id} by itself: it comes with the engine of {child.card}/chat",
            hint=f"hal0ctl cap enable {child.card} chat",
        )
    provider = _provider(child, asked, now, offered)
    device = _device(child, asked, now, [choice for choice in offered if choice.provider == provider])
    model = _model(child, asked, now, installed)
    entry = require(model)
    unknown = isinstance(entry, Absent) and not entry.capabilities
    if child.capability not in entry.capabilities and not unknown:
        able = ", ".join(sorted(entry.capabilities)) or "nothing"
        raise Hal0Error(
            "dispatch.capability_mismatch",
            f"cannot use {entry.id} for {child.id}: it can {able}",
            details={"model": entry.id, "capabilities": sorted(entry.capabilities)},
            param="model",
        )
    wanted = {"provider": provider, "device": device, "model": entry.id, "load_on_request": True}
    if asked.context_size is not None:
        wanted["context_size"] = asked.context_size
    fields = _changes(child, now.config, wanted)
    return Plan(
        child=child,
        fields=fields,
        model=entry.id,
        creates=now.config is None,
        restarts=now.config is not None and bool(fields.keys() & RELOADS),
        steps=tuple(_steps(child, now, fields, entry)),
    )


def _provider(child: Child, asked: SelectRequest, now: Now, offered: Sequence[Choice]) -> ProviderName:
    able = list(dict.fromkeys(choice.provider for choice in offered))
    if not able:
        raise Hal0Error("image.missing", f"cannot run {child.id}: this hal0 has no image that can")
    configured = now.config.provider if now.config is not None else child.table.get("provider")
    wanted = asked.provider or (configured if configured in able else None) or _first_ready(offered).provider
    if wanted not in able:
        known = ", ".join(able)
        raise Hal0Error("config.invalid", f"cannot run {child.id} with {wanted}: there are {known}", param="provider")
    return ProviderName(wanted)


def _first_ready(offered: Sequence[Choice]) -> Choice:
    return next((choice for choice in offered if choice.fault is None), offered[0])


def _device(child: Child, asked: SelectRequest, now: Now, offered: Sequence[Choice]) -> Device:
    """What is asked for, else what is configured; `auto` is good when anything is."""
    configured = now.config.device if now.config is not None else Device(child.table.get("device", Device.AUTO))
    device = asked.device or configured
    if device is Device.AUTO:
        choice = _first_ready(offered)
    else:
        found = next((choice for choice in offered if choice.device is device), None)
        if found is None:
            able = " or ".join(choice.device for choice in offered)
            raise Hal0Error(
                "image.unfit", f"cannot run {child.id} on {device}: its image runs on {able}", param="device"
            )
        choice = found
    if choice.fault is not None:
        raise choice.fault
    return device


def _model(child: Child, asked: SelectRequest, now: Now, installed: Sequence[str]) -> str:
    configured = now.config.model if now.config is not None else None
    model = asked.model or now.model or configured or child.model
    if model is not None:
        return model
    if len(installed) == 1:
        return installed[0]
    there = f"installed: {', '.join(installed)}" if installed else "none is installed"
    raise Hal0Error(
        "slot.no_model",
        f"cannot turn {child.id} on: no model is chosen ({there})",
        hint=f"hal0ctl cap enable {child.card} {child.name} --model MODEL",
    )


def _changes(child: Child, config: SlotConfig | None, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Only what is not so already, as TOML's own kinds of values."""
    if config is None:
        plain = {key: value for key, value in wanted.items() if key != "load_on_request" and value is not Device.AUTO}
        return _plain({**child.table, **plain})
    return _plain({key: value for key, value in wanted.items() if getattr(config, key) != value})


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, str) else value for key, value in fields.items()}


def _steps(child: Child, now: Now, fields: Mapping[str, Any], entry: ModelEntry | Absent) -> Iterator[str]:
    if now.config is None:
        port = PREFERRED.get(child.slot)
        where = f", on port {port} if that is free" if port is not None else ""
        yield f"create slot {child.slot} in slots.d/{child.slot}.toml{where}"
    elif fields:
        yield f"set {', '.join(fields)} of slot {child.slot}"
    if now.model not in (None, entry.id):
        yield f"change the model from {now.model} to {entry.id}"
    size = "" if entry.size_bytes is None else f" ({entry.size_bytes / _GB:.1f} GB)"
    if isinstance(entry, Absent):
        licence = "" if entry.license is None else f", under its licence {entry.license}"
        yield f"fetch {entry.id}{size}, which is not here{licence}"
    yield f"load {entry.id}{size}"
