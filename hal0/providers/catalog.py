"""The providers there are, by name: the one table that everything above asks."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from hal0.providers.base import Provider
from hal0.vocab import ProviderName

PROVIDERS: Final[Mapping[ProviderName, Provider]] = MappingProxyType(
    {name: import_module(f"hal0.providers.{name.module}").PROVIDER for name in ProviderName}
)
