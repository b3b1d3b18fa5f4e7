"""`[server]`: where hal0 listens and how it ends."""

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from hal0.config.base import ConfigModel, Port, Seconds, Text, Texts, fault

_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\Z"
)


def _addresses(hosts: tuple[Text, ...]) -> tuple[Text, ...]:
    """Addresses and host names, an IPv6 address with or without brackets; at least one."""
    if not hosts:
        raise fault("no address to listen on", allowed='such as ["0.0.0.0", "::"]')
    cleaned = tuple(host.removeprefix("[").removesuffix("]") for host in hosts)
    for host in cleaned:
        try:
            ip_address(host)
        except ValueError:
            # All digits and dots is a mistyped address, never a name.
            if host.replace(".", "").isdigit() or not _HOST_NAME.match(host):
                raise fault(f"{host!r} is neither an address nor a host name", allowed='such as "0.0.0.0"') from None
    return cleaned


class ServerConfig(ConfigModel):
    host: Annotated[Texts, AfterValidator(_addresses)] = Field(
        ("0.0.0.0", "::"),  # noqa: S104  the seeds' promise: reachable from the LAN, guarded by keys
        description="Addresses to listen on.",
    )
    port: Port = Field(8080, description="TCP port of the API, the dashboard and /v1. 0 takes any free port.")
    grace_s: Seconds = Field(30, description="How long open streams may finish after SIGTERM.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What hal0 writes to its log.")
