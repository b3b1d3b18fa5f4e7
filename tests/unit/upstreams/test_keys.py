"""The key of an upstream is attached as configured, or its lack is said; no request goes without."""

from typing import Any

import pytest

from hal0.config.upstreams import AuthConfig
from hal0.errors import Hal0Error
from hal0.upstreams.keys import key_header

ENVIRON = {"KEY": "sk-1", "BLANK": "  ", "SPLIT": "sk-1\r\nX-Evil: 1", "PADDED": " sk-2\n", "WIDE": "clé"}


def auth(**fields: Any) -> AuthConfig:
    return AuthConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({}, None),
        ({"style": "bearer", "env": "KEY"}, ("Authorization", "Bearer sk-1")),
        ({"style": "bearer", "secret": "sk-3"}, ("Authorization", "Bearer sk-3")),
        ({"style": "bearer", "env": "KEY", "secret": "sk-3"}, ("Authorization", "Bearer sk-1")),
        ({"style": "bearer", "env": "UNSET", "secret": "sk-3"}, ("Authorization", "Bearer sk-3")),
        ({"style": "bearer", "env": "PADDED"}, ("Authorization", "Bearer sk-2")),
        ({"style": "header", "header": "x-api-key", "env": "KEY"}, ("x-api-key", "sk-1")),
    ],
)
def test_the_header_that_carries_it(fields: dict[str, Any], header: tuple[str, str] | None) -> None:
    assert key_header("far", auth(**fields), ENVIRON) == header


@pytest.mark.parametrize("name", ["UNSET", "BLANK", "SPLIT", "WIDE"])
def test_without_a_sound_key_there_is_no_request(name: str) -> None:
    with pytest.raises(Hal0Error) as raised:
        key_header("far", auth(style="bearer", env=name), ENVIRON)
    assert raised.value.code == "upstream.auth"
    assert name in raised.value.message
    assert "sk-" not in raised.value.message


def test_an_empty_secret_is_no_key() -> None:
    with pytest.raises(Hal0Error, match=r"auth\.secret is empty"):
        key_header("far", auth(style="bearer", secret=" "), {})
