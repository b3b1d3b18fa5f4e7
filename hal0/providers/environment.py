"""The environment that every engine gets: its slot and model, what it needs itself, its GPU, the user's words last."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hal0.providers.base import Launch
from hal0.vocab import Device

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_NO_GPU: Final[Mapping[Device, str]] = MappingProxyType({})


def environment(
    launch: Launch, own: Mapping[str, str] = _NOTHING, *, visible: Mapping[Device, str] = _NO_GPU
) -> dict[str, str]:
    """Pure. `visible` names, by device, the variable that takes the number of the one GPU an engine may see."""
    env = {"HAL0_SLOT": launch.slot, "HAL0_MODEL": launch.model, **own}
    variable = visible.get(launch.device)
    if variable and launch.gpu_index is not None:
        env[variable] = str(launch.gpu_index)
    return {**env, **launch.env}
