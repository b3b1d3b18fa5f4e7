"""Where the hub is: of the configuration or the environment, and no secret in it."""

from pathlib import Path

import pytest

from hal0.config.models import ModelsConfig
from hal0.errors import Hal0Error
from hal0.models.registry import Registry
from hal0.outbound.client import Outside
from hal0.pulls.looking import Looking


def looking(tmp_path: Path, **environ: str) -> Looking:
    return Looking(Registry(tmp_path, (), tmp_path / "registry.toml"), ModelsConfig, environ, Outside)


def test_the_environment_comes_first(tmp_path: Path) -> None:
    assert looking(tmp_path).hub().endpoint == "https://huggingface.co"
    assert looking(tmp_path, HF_ENDPOINT="http://mirror:8000/hf/").hub().endpoint == "http://mirror:8000/hf"


@pytest.mark.parametrize("address", ["https://me:secret@mirror", "mirror/secret", "https://mirror?key=secret"])
def test_an_address_that_holds_a_secret_or_is_none_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(Hal0Error, match="HF_ENDPOINT") as caught:
        looking(tmp_path, HF_ENDPOINT=address).hub()
    assert caught.value.code == "config.invalid"
    assert "secret" not in str(caught.value.body())
