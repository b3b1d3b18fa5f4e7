"""The providers there are, by name: the one table that everything above asks."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hal0.providers.absent import Absent
from hal0.providers.base import Provider
from hal0.providers.comfyui.provider import ComfyUI
from hal0.providers.flm import Flm
from hal0.providers.kokoro import Kokoro
from hal0.providers.llamacpp import LlamaCpp
from hal0.providers.moonshine import Moonshine
from hal0.vocab import Capability, ProviderName

FLM: Final = Flm()

_ALL: Final[tuple[Provider, ...]] = (
    LlamaCpp(),
    FLM,
    Moonshine(),
    Kokoro(),
    ComfyUI(),
    Absent(ProviderName.UPSTREAM, frozenset(Capability)),
)

PROVIDERS: Final[Mapping[ProviderName, Provider]] = MappingProxyType({provider.name: provider for provider in _ALL})
