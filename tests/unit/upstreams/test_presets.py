"""A preset is a table that the configuration accepts."""

import pytest

from hal0.config.upstreams import UpstreamConfig
from hal0.upstreams.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_table(name: str) -> None:
    preset = PRESETS[name]
    config = UpstreamConfig.model_validate({"base_url": "http://box:8080/v1", **preset.fields()})
    assert config.kind is preset.kind
    assert config.auth.env == preset.env
    assert config.base_url.endswith("/v1")
    if preset.env is not None:  # a key that goes to the network goes encrypted
        assert config.base_url.startswith("https://")
