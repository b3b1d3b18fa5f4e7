"""Which hal0 is meant, and who said so."""

import json
from pathlib import Path

import pytest

from hal0.cli.target import discover
from hal0.client import ClientError

BOX = {
    "current": None,
    "contexts": {"box": {"url": "http://box:8080"}, "lab": {"url": "http://lab:1", "api_key_file": ""}},
}


def _home(tmp_path: Path, contexts: object = None, *, socket: bool = False) -> dict[str, str]:
    for name in ("etc", "run", "var"):
        (tmp_path / name).mkdir(exist_ok=True)
    if contexts is not None:
        (tmp_path / "etc" / "contexts.json").write_text(json.dumps(contexts))
    if socket:
        (tmp_path / "run" / "hal0.sock").touch()
    return {"HAL0_HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("url", "context", "env_url", "current", "found", "origin"),
    [
        ("http://flag:1", "box", "http://env:1", "lab", "http://flag:1", "--url"),
        (None, "box", "http://env:1", "lab", "http://box:8080", "context box"),
        (None, None, "http://env:1/", "lab", "http://env:1", "HAL0_URL"),
        (None, None, None, "lab", "http://lab:1", "context lab"),
        (None, None, None, None, "unix://{home}/run/hal0.sock", "default"),
    ],
)
def test_precedence(
    tmp_path: Path,
    url: str | None,
    context: str | None,
    env_url: str | None,
    current: str | None,
    found: str,
    origin: str,
) -> None:
    env = _home(tmp_path, {**BOX, "current": current}, socket=True)
    if env_url:
        env["HAL0_URL"] = env_url
    target = discover(url, context, environ=env)
    assert (target.url, target.origin) == (found.format(home=tmp_path), origin)


def test_without_a_socket_the_default_port_is_tried_and_the_socket_named(tmp_path: Path) -> None:
    target = discover(environ=_home(tmp_path))
    assert target.url == "http://127.0.0.1:8080"
    assert str(tmp_path / "run" / "hal0.sock") in target.origin


def test_key_comes_from_the_file_before_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("from-file\n")
    env = {**_home(tmp_path), "HAL0_API_KEY": "from-env"}
    target = discover(api_key_file=str(key_file), environ=env)
    assert target.api_key == "from-file"
    assert "from-file" not in repr(target)
    assert discover(environ=env).api_key == "from-env"


@pytest.mark.parametrize(
    ("kwargs", "contexts", "said"),
    [
        ({"context": "nope"}, BOX, "cannot find a context 'nope'"),
        ({"url": "box:8080"}, None, "cannot use 'box:8080' (--url)"),
        ({"api_key_file": "/nonexistent/key"}, None, "cannot read the key file"),
        ({}, ["not", "a", "dict"], "cannot read"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, kwargs: dict[str, str], contexts: object, said: str) -> None:
    with pytest.raises(ClientError, match=said.replace("(", r"\(").replace(")", r"\)")):
        discover(environ=_home(tmp_path, contexts), **kwargs)
