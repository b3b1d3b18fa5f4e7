"""The first hal0.toml: every key with its meaning and default, and the five built-in slots to copy from."""

import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

import tomlkit
from pydantic.fields import FieldInfo

from hal0.config.base import ConfigModel
from hal0.config.profiles import PROFILE_FIELDS
from hal0.config.root import BUILTIN_PROVIDERS, RootConfig
from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic
from hal0.paths import Paths
from hal0.vocab import BUILTIN_SLOTS, SlotName

_WIDTH: Final = 100
_HEAD: Final = """\
# hal0's configuration. Saving a valid file applies it within two seconds; a file with a fault changes nothing, and
# `hal0ctl status` says what is wrong with it. A key behind a `#` shows its default, or an example.
# Any key can also come from the environment: HAL0_SERVER__PORT=8090.
"""
_SLOTS_HEAD: Final = """\
# Slots: named places, each for one model. These five are always there; copy one under another name for more.
# `model` is the model of the first load; after that `hal0ctl slot swap NAME MODEL` changes it.
"""
_SEEDS_HEAD: Final = """\
# hal0 chose these models for the memory of this machine. None of them is here yet: `hal0ctl slot load NAME` fetches the
# one of a slot, and `hal0ctl model list --catalog` shows what else there is.
"""
_EXAMPLES: Final = """\
# A named set of slot fields, used with `profile = "small"`; hal0 brings vulkan, rocm, cuda, cpu, moe, long-context
# and low-memory.
# [profiles.small]
# context_size = 4096
# extra_args = ["--cache-ram", "0"]

# A server elsewhere. Its models appear in /v1/models beside the local ones, `prefix` in front of their names; what is
# sent there leaves this machine. `hal0ctl upstream add` writes such a table, `hal0ctl upstream test` tries it.
# [upstreams.openrouter]
# base_url = "https://openrouter.ai/api/v1"
# prefix = "openrouter/"
# auth = { style = "bearer", env = "OPENROUTER_API_KEY" }
# models = ["openai/gpt-4o"]
# priority = 50
# weight = 1

# A slot that stands for one of its models, under a name of yours.
# [slots.smart]
# provider = "upstream"
# upstream = "openrouter"
# model = "openai/gpt-4o"
"""
Seeds = Mapping[SlotName, Mapping[str, Any]]
# A profile supplies these where a slot leaves them out, so the built-in tables leave them out.
_LEFT_OUT: Final = frozenset(PROFILE_FIELDS) - {"provider"} | {"extra_args"}


def template(seeds: Seeds = MappingProxyType({})) -> str:
    """The commented hal0.toml. `seeds` gives fields per slot name. Loading it gives the defaults, and those."""
    blocks = [_HEAD]
    for section, info in RootConfig.model_fields.items():
        if isinstance(info.default, ConfigModel):
            blocks.append("\n".join(_section(section, info, info.default)) + "\n")
        elif section == "slots":
            blocks.append(_SLOTS_HEAD + (_SEEDS_HEAD if seeds else ""))
            blocks += ["\n".join(_slot(name, seeds.get(name, {}))) + "\n" for name in BUILTIN_SLOTS]
    blocks.append(_EXAMPLES)
    return "\n".join(blocks)


def write_first(paths: Paths, seeds: Callable[[], Seeds] = dict) -> bool:
    """Write hal0.toml where there is none; True when it was written. Blocking. Raises state.write_failed.

    `seeds` are asked for only then: it takes a look at the machine to know them.
    """
    if os.path.lexists(paths.config_file):  # also what cannot be read now, or leads to where nothing is yet
        return False
    try:
        paths.config_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(paths.config_file, template(seeds()).encode())
    except OSError as error:
        raise Hal0Error("state.write_failed", f"cannot write {paths.config_file}: {error.strerror}") from error
    return True


def _section(name: str, info: FieldInfo, defaults: ConfigModel) -> Iterator[str]:
    yield f"# {info.description}"
    yield f"[{name}]"
    for key, field in type(defaults).model_fields.items():
        yield from _comment(field)
        yield f"# {key} = {_toml(_shown(field))}"


def _slot(name: SlotName, seed: Mapping[str, Any]) -> Iterator[str]:
    """A full table; the first one explains every key and shows those that have no default."""
    explained = name == BUILTIN_SLOTS[0]
    values = {"provider": BUILTIN_PROVIDERS[name], **seed}
    yield f"[slots.{name}]"
    for key, field in SlotConfig.model_fields.items():
        value = values.get(key, field.get_default(call_default_factory=True, validated_data={}))
        if explained:
            yield from _comment(field)
        if value is not None and (key in seed or key not in _LEFT_OUT):
            yield f"{key} = {_toml(value)}"
        elif explained:
            yield f"# {key} = {_toml(_shown(field))}"


def _shown(field: FieldInfo) -> Any:
    """The default, or an example where unset is the default."""
    default = field.get_default(call_default_factory=True, validated_data={})
    return field.examples[0] if default is None and field.examples else default


def _comment(field: FieldInfo) -> list[str]:
    return textwrap.wrap(field.description or "", _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if value == {}:
        return "{}"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text: str = tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string()
    return text
