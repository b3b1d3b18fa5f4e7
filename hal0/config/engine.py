"""`[engine]`: how hal0 reaches podman, and what the containers may take together."""

from typing import Annotated

from pydantic import AfterValidator, Field

from hal0.config.base import ConfigModel, Count, Flag, SomeSize, Text, fault


def _socket(value: str) -> str:
    path = value.removeprefix("unix://")
    if not path.startswith("/"):
        raise fault(f"{value!r} is not a socket path", allowed='such as "/run/podman/podman.sock" or "unix:///..."')
    return path


class EngineConfig(ConfigModel):
    socket: Annotated[Text, AfterValidator(_socket)] | None = Field(
        None,
        examples=["/run/podman/podman.sock"],
        description="podman's REST socket. Unset: CONTAINER_HOST, then the rootful and rootless ones.",
    )
    memory_limit: SomeSize | None = Field(
        None,
        examples=["24GiB"],
        description='What all slots together may take of RAM, such as "24GiB". Unset: what there is.',
    )
    idle_restore_min: Count = Field(
        60,
        description="Without images for so long, language models that made way get the GPU back. 0: never by itself.",
    )
    start_service: Flag = Field(True, description="Run `podman system service` when no socket answers.")
