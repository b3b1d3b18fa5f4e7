"""Whether a slot's engine loads models of this kind at all: said before anything is stopped or made. Pure."""

from collections.abc import Sequence
from typing import Final, Protocol

from hal0.config.arguments import refused
from hal0.errors import Hal0Error
from hal0.providers.base import Provider


class Kind(Protocol):
    """What is looked at of a model."""

    @property
    def id(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def architecture(self) -> str: ...


# What to look for instead, where nobody loads a model in this form: chat models come so, models that draw do not.
_OTHERWISE: Final = {"gguf": "ComfyUI draws from safetensors files alone: pull the model in that form."}


def require_match(model: Kind, provider: Provider) -> None:
    """Raises dispatch.capability_mismatch, which names the providers that load the model."""
    if provider.loads(model.format, model.architecture):
        return
    from hal0.providers.catalog import PROVIDERS  # only a refusal has to know them all

    able = [name for name, other in PROVIDERS.items() if other.loads(model.format, model.architecture)]
    what = f"{model.architecture} ({model.format})" if model.architecture else model.format
    raise Hal0Error(
        "dispatch.capability_mismatch",
        f"cannot load {model.id} with {provider.name}: it is {what}, which {_served_by(able)}",
        details={"model": model.id, "format": model.format, "provider": provider.name, "served_by": able},
        hint=f"Use a slot whose provider is {able[0]}." if able else _OTHERWISE.get(model.format),
        param="model",
    )


def require_arguments(model: str, provider: Provider, words: Sequence[str]) -> None:
    """Raises config.invalid for what hal0 does not pass on: slots and profiles are checked where they are read, and
    what is left are the defaults of a model, whose engine nobody knows there."""
    if refusals := refused(provider.name, words):
        told = "; ".join(f"{it.flag}: {it.reason}" for it in refusals)
        raise Hal0Error(
            "config.invalid",
            f"cannot start {model} with {provider.name} by the model's defaults: {told}",
            details={"model": model, "flags": [it.flag for it in refusals]},
            hint=f"hal0ctl model set {model} extra_args=",
            param="extra_args",
        )


def _served_by(able: Sequence[str]) -> str:
    return f"{' or '.join(able)} serves" if able else "no provider of this hal0 serves"
