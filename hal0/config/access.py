"""`[access]`: who may call hal0 without a key, and through what."""

from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from hal0.config.base import ConfigModel, Flag, Text, Texts, fault


def _networks(values: tuple[Text, ...]) -> tuple[Text, ...]:
    for value in values:
        try:
            ip_network(value)
        except ValueError:
            raise fault(f"{value!r} is not a network", allowed='such as "192.168.1.10" or "10.0.0.0/8"') from None
    return values


def _origins(values: tuple[Text, ...]) -> tuple[Text, ...]:
    for value in values:
        parts = urlsplit(value)
        if value != "*" and (parts.scheme not in {"http", "https"} or value != f"{parts.scheme}://{parts.netloc}"):
            raise fault(f"{value!r} is not an origin", allowed='such as "https://chat.example.org", or "*"')
    return values


class AccessConfig(ConfigModel):
    hosts: Texts = Field((), description="Host names that hal0 is reached by; set when it stands behind a proxy.")
    trusted_proxies: Annotated[Texts, AfterValidator(_networks)] = Field(
        (), description="Addresses whose X-Forwarded-* headers count."
    )
    cors_origins: Annotated[Texts, AfterValidator(_origins)] = Field(
        (), description="Web pages that may call /v1 with a key."
    )
    trust_loopback: Flag = Field(True, description="Programs on this machine may use /v1 without a key.")
    open_lan: Flag = Field(False, description="Private address ranges may use /v1 without a key.")
