"""`[memory]`: the memory that agents keep through hal0's MCP endpoint."""

from pydantic import Field

from hal0.config.base import ConfigModel, Flag, SomeSize


class MemoryConfig(ConfigModel):
    enabled: Flag = Field(True, description="Offer /mcp/memory.")
    limit: SomeSize = Field(1024**3, description="Largest size of the memory database.")
