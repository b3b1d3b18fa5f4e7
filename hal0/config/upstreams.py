"""`[upstreams.<name>]`: servers elsewhere that answer like OpenAI, Anthropic or hal0."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from hal0.config.base import BaseUrl, ConfigModel, Count, Flag, SomeSeconds, Text, Texts, fault


class UpstreamKind(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    HAL0 = "hal0"


class AuthStyle(StrEnum):
    NONE = "none"
    BEARER = "bearer"
    HEADER = "header"


class AuthConfig(ConfigModel):
    style: AuthStyle = Field(AuthStyle.NONE, description="How the key is sent: not at all, as bearer, in a header.")
    header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")] | None = Field(
        None, description="The header's name for the style `header`."
    )
    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, description="Environment variable that holds the key."
    )
    secret: SecretStr | None = Field(None, description="The key itself, when it may stand in a file.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.style is not AuthStyle.NONE and self.env is None and self.secret is None:
            raise fault(f"auth style {self.style.value!r} has no key", allowed="set `env` or `secret`")
        if (self.style is AuthStyle.HEADER) != (self.header is not None):
            raise fault("`header` and the style `header` go together", allowed='style = "header", header = "X-Api-Key"')
        return self


class UpstreamConfig(ConfigModel):
    base_url: BaseUrl = Field(description='Address up to and with "/v1", without user, query or fragment.')
    kind: UpstreamKind = Field(UpstreamKind.OPENAI, description="Which API it speaks.")
    enabled: Flag = Field(True, description="Whether requests go there.")
    auth: AuthConfig = Field(AuthConfig(), description="The key that hal0 attaches.")
    models: Texts = Field((), description="Only these models; empty: all that it lists.")
    prefix: Text | None = Field(None, description='Put before its model ids, such as "openrouter/".')
    connect_timeout_s: SomeSeconds = Field(5, description="Deadline of a connection.")
    first_byte_timeout_s: SomeSeconds = Field(600, description="Deadline of an answer's first byte.")
    between_bytes_timeout_s: SomeSeconds = Field(300, description="Longest silence inside an answer.")
    priority: Count = Field(50, le=100, description="Higher goes first when several list a model.")
    weight: Count = Field(1, ge=1, le=1000, description="Share among upstreams of the same priority.")
