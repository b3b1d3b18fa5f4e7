"""How a slot would be started now, and who said each of it: provider < model < profile < slot < fallback. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from hal0.config.defaults import ModelDefaults
from hal0.config.flags import Flag, adds_up, flags
from hal0.config.load import Origin
from hal0.config.profiles import PROFILE_FIELDS, ProfileConfig
from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig
from hal0.providers.base import Launch, Provider
from hal0.vocab import Device, ProviderName, SlotName
from hal0.wire.resolved import FlagView, OverriddenView, ResolvedView, ValueView

Origins = Mapping[tuple[str, ...], Origin]

# What a start is made of, beside its arguments and its environment.
_FIELDS: Final = (
    *("provider", "model", "device", "gpu_index", "image", "context_size", "parallel", "memory_limit"),
    *("max_inflight", "idle_timeout_s", "unload_after_s", "swap"),
)
# Flags that hal0 writes for a field, and so have its origin.
_FLAG_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ctx-size": "context_size",
        "ctx-len": "context_size",
        "parallel": "parallel",
        "kv-unified": "parallel",
        "model": "model",
        "alias": "model",
        "mmproj": "model",
        "gpu-layers": "device",
        "device": "device",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known of a slot: `config` as it is started now; `own`, before its profile and fallback, is in `root`.

    `fallback` is the number of the fallback in force, `defaults` are the model's. `launch` is None with the reason in
    `missing`.
    """

    slot: SlotName
    root: RootConfig
    origins: Origins
    config: SlotConfig
    provider: Provider
    device: Device
    model: str | None
    defaults: ModelDefaults | None
    fallback: int | None
    launch: Launch | None
    missing: str | None

    @property
    def own(self) -> SlotConfig:
        return self.root.slots[self.slot]

    @property
    def profile(self) -> ProfileConfig | None:
        return self.root.profile(self.own.profile) if self.own.profile else None


@dataclass(frozen=True, slots=True)
class _Said:
    """Who said something, and in which line."""

    origin: str
    where: str | None = None


_BY_PROVIDER: Final = _Said("provider")
_BY_MODEL: Final = _Said("model")


def resolved(it: Asked) -> ResolvedView:
    return ResolvedView(
        slot=it.slot,
        provider=it.provider.name,
        profile=it.own.profile,
        fields=[_value(name, _shown(it, name), _of_field(it, name)) for name in _FIELDS],
        flags=list(_flags(it)),
        env=list(_env(it)),
        request_defaults=list(_defaults(it)),
        command=None if it.launch is None else it.provider.start_cmd(it.launch),
        missing=it.missing,
    )


def _shown(it: Asked, name: str) -> Any:
    match name:
        case "device":
            return it.device
        case "model":
            return it.model
        case "context_size" if it.launch is not None:
            return it.launch.context_size
    return getattr(it.config, name)


def _of_field(it: Asked, name: str) -> _Said:
    own, profile = it.own, it.profile
    if it.fallback and getattr(own.fallbacks[it.fallback - 1], name, None) is not None:
        return _Said(f"fallback {it.fallback}", _where(it, "slots", it.slot, "fallbacks"))
    if name == "model":
        return _in_slot(it, name) if it.model == own.model else _Said("operator")
    if name in own.model_fields_set and not (name == "device" and own.device is Device.AUTO):
        return _in_slot(it, name)
    if profile is not None and name in PROFILE_FIELDS and getattr(profile, name) is not None:
        return _in_profile(it, name)
    if name == "device":
        return _Said("machine")
    # A model's default, or what it was trained on.
    return _BY_MODEL if name == "context_size" or getattr(it.defaults, name, None) is not None else _Said("default")


def _in_slot(it: Asked, *path: str) -> _Said:
    where = _where(it, "slots", it.slot, *path)
    return _Said("slot" if where or path[0] in it.own.model_fields_set else "default", where)


def _in_profile(it: Asked, *path: str) -> _Said:
    return _Said(f"profile {it.own.profile}", _where(it, "profiles", it.own.profile or "", *path))


def _where(it: Asked, *path: str) -> str | None:
    """`FILE:LINE`, `environment` or `command line`, of the nearest key that somebody wrote."""
    for length in range(len(path), 2, -1):
        if (origin := it.origins.get(path[:length])) is not None:
            return origin.source if origin.line is None else f"{origin.source}:{origin.line}"
    return None


def _flags(it: Asked) -> Iterator[FlagView]:
    """Of several spellings of one flag the last counts, and says which it wins over."""
    said: dict[str, list[tuple[Flag, _Said]]] = {}
    for flag, by in _spoken(it):
        said.setdefault(f"{flag.name} {len(said)}" if adds_up(flag) else flag.name, []).append((flag, by))
    for *earlier, (flag, by) in said.values():
        yield FlagView(
            name=flag.name,
            words=list(flag.words),
            origin=by.origin,
            where=by.where,
            overrides=[OverriddenView(words=list(old.words), origin=whose.origin) for old, whose in earlier],
        )


def _spoken(it: Asked) -> Iterator[tuple[Flag, _Said]]:
    """Every flag of a start in its order; without a launch those that were configured."""
    provider, profile = it.provider.name, it.profile
    if it.launch is not None:
        for flag in flags(provider, _written(it.provider.start_cmd(it.launch), it.launch.extra_args)):
            field = _FLAG_OF.get(flag.name)
            yield flag, _BY_PROVIDER if field is None else _of_field(it, field)
    if it.defaults is not None:
        yield from _said_by(provider, it.defaults.extra_args, _BY_MODEL)
    if profile is not None:
        yield from _said_by(provider, profile.extra_args, _in_profile(it, "extra_args"))
    yield from _said_by(provider, it.own.extra_args, _in_slot(it, "extra_args"))


def _said_by(provider: ProviderName, argv: Iterable[str], by: _Said) -> Iterator[tuple[Flag, _Said]]:
    for flag in flags(provider, tuple(argv)):
        yield flag, by


def _written(command: Sequence[str], extra: Sequence[str]) -> Sequence[str]:
    """What the provider wrote itself: extra arguments come last."""
    if extra and tuple(command[-len(extra) :]) == tuple(extra):
        return command[: -len(extra)]
    return command


def _env(it: Asked) -> Iterator[ValueView]:
    if it.launch is not None:
        for name, value in it.provider.build_env(replace(it.launch, env={})).items():
            if name not in it.own.env:
                yield _value(name, value, _BY_PROVIDER)
    for name, value in it.own.env.items():
        yield _value(name, value, _in_slot(it, "env", name))


def _defaults(it: Asked) -> Iterator[ValueView]:
    for name, value in it.config.request_defaults.items():
        yield _value(name, value, _of_default(it, name))


def _of_default(it: Asked, name: str) -> _Said:
    if name in it.own.request_defaults:
        return _in_slot(it, "request_defaults", name)
    if it.profile is not None and name in it.profile.request_defaults:
        return _in_profile(it, "request_defaults", name)
    return _BY_MODEL


def _value(name: str, value: Any, by: _Said) -> ValueView:
    return ValueView(name=name, value=value, origin=by.origin, where=by.where)
