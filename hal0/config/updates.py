"""`[updates]`: where new image manifests come from."""

from pydantic import Field

from hal0.config.base import ConfigModel, Flag, Text


class UpdatesConfig(ConfigModel):
    check: Flag = Field(False, description="Look for a new manifest once a day.")
    manifest: Text | None = Field(
        None, examples=["/etc/hal0/manifest.json"], description="A signed manifest: a file or an https URL."
    )
