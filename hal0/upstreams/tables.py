"""The operator's changes to upstreams: in the configuration, and at once for real."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hal0.config import elsewhere
from hal0.config.custom import Sources
from hal0.config.faults import Fault, refused
from hal0.config.live import Apply, LiveConfig
from hal0.config.load import Loaded
from hal0.lib.aio import ToTheEnd
from hal0.upstreams.presets import PRESETS, Preset

_PLAIN: Final = Preset(None)


@dataclass(frozen=True, slots=True)
class Given:
    """What may stand for fields of a new table: a preset, the key, the variable that holds it."""

    preset: str | None = None
    key: str | None = field(default=None, repr=False)
    key_env: str | None = None


class UpstreamTables:
    """`apply` is what a new configuration goes through; upstreams themselves listen to it.

    What is begun here ends, also when its caller leaves.
    """

    def __init__(self, live: LiveConfig, apply: Apply) -> None:
        self._live = live
        self._apply = apply
        self._to_the_end = ToTheEnd()

    async def close(self) -> None:
        await self._to_the_end.aclose()

    async def add(self, name: str, fields: Mapping[str, Any], given: Given) -> None:
        """`fields` win over the preset's. Raises as `config.elsewhere.add`."""
        await self._edit(functools.partial(elsewhere.add, name=name, fields=filled(name, fields, given)))

    async def change(self, name: str, fields: Mapping[str, Any]) -> None:
        """Raises as `config.elsewhere.change`."""
        await self._edit(functools.partial(elsewhere.change, name=name, fields=fields))

    async def delete(self, name: str) -> None:
        """Raises as `config.elsewhere.take_away`."""
        await self._edit(functools.partial(elsewhere.take_away, name=name))

    async def _edit(self, write: Callable[[Sources], Loaded]) -> None:
        await self._to_the_end.run(self._live.edit(write, self._apply))


def filled(name: str, fields: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """The table for a new upstream. A key goes as the preset says, else as bearer. Raises config.invalid."""
    preset = None
    if given.preset is not None:
        preset = PRESETS.get(given.preset)
        if preset is None:
            fault = Fault("", None, "preset", f"there is no preset {given.preset!r}", ", ".join(PRESETS))
            raise refused(f"add upstream {name}", [fault])
    table = preset.fields() if preset is not None else {}
    key = {word: value for word, value in (("secret", given.key), ("env", given.key_env)) if value is not None}
    if key:
        table["auth"] = (preset or _PLAIN).auth() | key
    return table | {field: value for field, value in fields.items() if value is not None}
