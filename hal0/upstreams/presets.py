"""Servers that people name rather than configure: where each one answers, what it speaks, how it wants its key."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from hal0.config.upstreams import AuthStyle, UpstreamKind


@dataclass(frozen=True, slots=True)
class Preset:
    """What an `[upstreams.<name>]` starts from. `env` is the variable that the provider's own clients read.

    Without `env` it is a server of your own that asks for no key; without `base_url` only you know where it is.
    """

    base_url: str | None
    env: str | None = None
    kind: UpstreamKind = UpstreamKind.OPENAI
    header: str | None = None  # None: the key is sent as bearer

    def fields(self) -> dict[str, Any]:
        """As the table would be written."""
        table: dict[str, Any] = {} if self.base_url is None else {"base_url": self.base_url}
        if self.kind is not UpstreamKind.OPENAI:
            table["kind"] = self.kind.value
        if self.env is not None:
            table["auth"] = self.auth() | {"env": self.env}
        return table

    def auth(self) -> dict[str, str]:
        """How a key goes there, without the key."""
        if self.header is None:
            return {"style": AuthStyle.BEARER.value}
        return {"style": AuthStyle.HEADER.value, "header": self.header}


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "openrouter": Preset("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        "openai": Preset("https://api.openai.com/v1", "OPENAI_API_KEY"),
        "anthropic": Preset(
            "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", UpstreamKind.ANTHROPIC, header="x-api-key"
        ),
        "groq": Preset("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        "together": Preset("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        "mistral": Preset("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        "deepseek": Preset("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        "lmstudio": Preset("http://127.0.0.1:1234/v1"),
        "ollama": Preset("http://127.0.0.1:11434/v1"),
        # Its own default port is hal0's, so that on one machine one of the two has to move.
        "llama-swap": Preset("http://127.0.0.1:8080/v1"),
        "vllm": Preset("http://127.0.0.1:8000/v1"),
        "hal0": Preset(None, kind=UpstreamKind.HAL0),
    }
)
