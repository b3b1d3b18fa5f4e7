"""The providers there are, by name: the one table that everything above asks."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hal0.providers.base import Provider
from hal0.providers.llamacpp import LlamaCpp
from hal0.vocab import ProviderName

_ALL: Final[tuple[Provider, ...]] = (LlamaCpp(),)

PROVIDERS: Final[Mapping[ProviderName, Provider]] = MappingProxyType({provider.name: provider for provider in _ALL})
