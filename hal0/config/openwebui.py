"""`[openwebui]`: the optional chat page beside hal0."""

from pydantic import Field

from hal0.config.base import ConfigModel, Flag, Port, Text


class OpenWebUIConfig(ConfigModel):
    enabled: Flag = Field(False, description="Run OpenWebUI under hal0's supervision.")
    port: Port = Field(3001, ge=1, description="Its TCP port.")
    image: Text | None = Field(None, examples=["localhost/open-webui"], description="Its image. Unset: the manifest's.")
