"""`[engine]`: how hal0 reaches podman."""

from typing import Annotated

from pydantic import AfterValidator, Field

from hal0.config.base import ConfigModel, Flag, Text, fault


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
    start_service: Flag = Field(True, description="Run `podman system service` when no socket answers.")
