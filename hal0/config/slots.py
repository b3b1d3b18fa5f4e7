"""`[slots.<name>]`: what one slot runs, when it is loaded, and how long anything about it may take."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hal0.config import arguments
from hal0.config.base import ConfigModel, Count, Flag, Seconds, SomeCount, SomeSeconds, SomeSize, Text, Words, fault
from hal0.vocab import HUB_PLACE, MODEL_ID, SLOT_PORTS, Device, OnClientGone, ProviderName, SwapMode

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ALIAS: Final = r"^[a-z0-9][a-z0-9._-]{0,127}$"
# Model ids of these are the other side's own words (`llama3.2:3b`, `openai/gpt-4o`) and are left alone.
_FOREIGN_IDS: Final = frozenset({ProviderName.FLM, ProviderName.UPSTREAM})
_PORTS: Final = f"0 (any), or {SLOT_PORTS.start} to {SLOT_PORTS.stop - 1}"


def fold_model_id(name: str) -> str:
    """`Qwen3-4B:Q4_K_M` and `qwen3-4b-q4_k_m` are the same model: lower case, the quantisation as suffix."""
    return name.strip().lower().replace(":", "-")


def _slot_port(port: int) -> int:
    if port and port not in SLOT_PORTS:
        raise fault(f"{port} is not a slot port", allowed=_PORTS)
    return port


def _environment(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not _ENV_NAME.match(name):
            raise fault(f"{name!r} is not the name of an environment variable", allowed="letters, digits and _")
        if any(ord(character) < 32 for character in value):
            raise fault(f"the value of {name} contains control characters")
    return env


SlotPort = Annotated[Count, AfterValidator(_slot_port)]
# llama-server pads shorter contexts to its smallest batch.
ContextSize = Annotated[int, Field(strict=True, ge=128, le=16_777_216)]
Environment = Annotated[dict[str, str], AfterValidator(_environment)]
Alias = Annotated[str, StringConstraints(pattern=_ALIAS)]


class FallbackConfig(ConfigModel):
    """One thing to try after repeated start failures: these fields replace the slot's."""

    device: Device | None = Field(None, description="Another device, such as cpu.")
    image: Text | None = Field(None, description="Another image.")
    context_size: ContextSize | None = Field(None, description="A smaller context, in tokens.")
    parallel: SomeCount | None = Field(None, le=256, description="Fewer requests at the same time.")


def plain_spelling(table: Mapping[str, Any]) -> dict[str, Any]:
    """`[model] default = "x"` becomes `model = "x"`, and what is below `[defaults]` moves up one level.

    A field given in both spellings stays where it is below `defaults`, and is refused there as unknown.
    """
    plain = dict(table)
    model = plain.get("model")
    if isinstance(model, Mapping) and set(model) == {"default"}:
        plain["model"] = model["default"]
    defaults = plain.get("defaults")
    if isinstance(defaults, Mapping):
        kept = {key: value for key, value in defaults.items() if key in plain}
        plain |= {key: value for key, value in defaults.items() if key not in plain}
        del plain["defaults"]
        if kept:
            plain["defaults"] = kept
    return plain


class SlotConfig(ConfigModel):
    provider: ProviderName = Field(ProviderName.LLAMACPP, description=f"{' '.join(ProviderName)}.")
    upstream: Text | None = Field(
        None, examples=["openrouter"], description="For the provider upstream: which [upstreams.<name>]."
    )
    model: Text | None = Field(
        None, examples=["qwen3-4b-q4_k_m"], description="The first model; later ones are set with `hal0ctl slot swap`."
    )
    profile: Text | None = Field(
        None, examples=["low-memory"], description="Fields from [profiles.<name>], where this table has none."
    )
    device: Device = Field(Device.AUTO, description="auto vulkan rocm cuda cpu npu.")
    gpu_index: Count | None = Field(
        None, examples=[0], description="Which GPU, counted from 0. Unset: the engine chooses."
    )
    image: Text | None = Field(
        None, examples=["localhost/hal0-toolbox-vulkan"], description="Another image than the provider's."
    )
    port: SlotPort = Field(0, description=f"Port on loopback: {_PORTS}.")
    autoload: Flag = Field(False, description="Load when hal0 starts.")
    load_on_request: Flag = Field(
        True, description="Load when a request asks for it. If not, never unload to make room for one."
    )
    pinned: Flag = Field(False, description="Never unload to make room for another slot, or for being idle.")
    priority: Count = Field(50, le=100, description="0-100; lower leaves first when memory is short.")
    idle_timeout_s: Seconds = Field(600, description="Quiet for so long is shown as idle. 0: never.")
    unload_after_s: Seconds = Field(0, description="Unload after so long without use. 0: only when memory is needed.")
    max_inflight: SomeCount | None = Field(
        None, examples=[8], description="Requests at the same time. Unset: what the engine takes."
    )
    queue_limit: Count = Field(64, description="Requests that may wait beyond max_inflight.")
    hold_s: Seconds | None = Field(
        None, le=600, examples=[60], description="How long a request waits for a load. Unset: [dispatch]."
    )
    readiness_timeout_s: SomeSeconds | None = Field(
        None, examples=[180], description="Deadline of a start. Unset: from the file's size."
    )
    first_byte_timeout_s: SomeSeconds | None = Field(
        None, examples=[600], description="Deadline of a first byte. Unset: [dispatch]."
    )
    drain_s: Seconds = Field(120, description="How long open streams may finish before an unload.")
    swap: SwapMode = Field(SwapMode.REPLACE, description="replace: old out, new in. overlap: new in, old out.")
    on_client_gone: OnClientGone = Field(OnClientGone.CANCEL, description="cancel, or drain: let the engine finish.")
    verify_on_load: Flag = Field(False, description="Ask for one token before the slot counts as ready.")
    context_size: ContextSize | None = Field(
        None, examples=[8192], description="Tokens. Unset: the model's own, at most 32768."
    )
    parallel: SomeCount | None = Field(
        None, le=256, examples=[2], description="Requests that the engine works on at the same time."
    )
    memory_limit: SomeSize | None = Field(
        None, examples=["8GiB"], description='The container\'s memory, such as "8GiB". Unset: no limit.'
    )
    extra_args: Words = Field((), description="More arguments for the engine: a list, or a string as in a shell.")
    env: Environment = Field(default_factory=dict, description="More environment variables for the engine.")
    aliases: tuple[Alias, ...] = Field((), description="More names that requests may use for this slot.")
    fallbacks: tuple[FallbackConfig, ...] = Field(
        (), description="What to try after two failed starts, in order; a restart tries the slot's own fields again."
    )
    request_defaults: dict[str, Any] = Field(default_factory=dict, description="Members that a request may leave out.")

    @model_validator(mode="before")
    @classmethod
    def _spelling(cls, table: object) -> object:
        return plain_spelling(table) if isinstance(table, Mapping) else table

    @field_validator("model")
    @classmethod
    def _model(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is None or info.data.get("provider") in _FOREIGN_IDS:
            return model
        folded = fold_model_id(model)
        if not MODEL_ID.match(folded):
            if HUB_PLACE.match(model):
                raise fault(
                    f"{model!r} is no model id", allowed=f"the id that it has once it is here: hal0ctl pull {model}"
                )
            raise fault(f"{model!r} is not a model id", allowed="letters, digits and . _ - ; GET /v1/models lists them")
        return folded

    @field_validator("extra_args")
    @classmethod
    def _extra_args(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        provider = info.data.get("provider")
        if provider is not None and (refusals := arguments.refused(provider, words)):
            raise fault("; ".join(f"{refusal.flag}: {refusal.reason}" for refusal in refusals))
        return words

    @field_validator("env")
    @classmethod
    def _env(cls, env: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        provider = info.data.get("provider")
        if provider is not None and (refusals := arguments.refused_env(provider, env)):
            raise fault("; ".join(f"{refusal.flag} {refusal.reason}" for refusal in refusals))
        return env

    @model_validator(mode="after")
    def _upstream(self) -> Self:
        if (self.provider is ProviderName.UPSTREAM) != (self.upstream is not None):
            raise fault(
                "`upstream` and the provider upstream go together", allowed='provider = "upstream", upstream = "name"'
            )
        return self
