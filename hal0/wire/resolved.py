"""How a slot is started, value by value, and who said so."""

from typing import Any

from hal0.vocab import ProviderName
from hal0.wire.base import View


class ValueView(View):
    """`origin`: default, provider, model, machine, profile NAME, slot, or fallback N; `where` is file and line."""

    name: str
    value: Any
    origin: str
    where: str | None


class OverriddenView(View):
    words: list[str]
    origin: str


class FlagView(View):
    """One flag that counts, as it is spelled, and what it wins over."""

    name: str
    words: list[str]
    origin: str
    where: str | None
    overrides: list[OverriddenView]


class ResolvedView(View):
    """`command` is the whole argument list of a start, None with the reason in `missing`."""

    slot: str
    provider: ProviderName
    profile: str | None
    fields: list[ValueView]
    flags: list[FlagView]
    env: list[ValueView]
    request_defaults: list[ValueView]
    command: list[str] | None
    missing: str | None
