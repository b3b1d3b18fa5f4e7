"""`hal0 serve` that cannot start: what it says of a configuration at fault."""

import errno
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal0.__main__ import main
from hal0.serving import _cannot_listen


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `hal0` changes of its own process is given back to the tests'."""
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "__all__")
    yield
    gc.enable()


def test_a_file_that_is_no_text_is_named_and_nothing_else(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "etc" / "hal0.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\xfe")
    assert main(["serve"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"error: cannot use the configuration: {file}: is not UTF-8 text   [config.invalid]"
    assert told[1] == f"  {file}: is not UTF-8 text"


def test_every_fault_says_where_it_is_and_what_is_allowed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / "etc" / "hal0.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[memory]\nbogus = 1\n")
    monkeypatch.setenv("HAL0_SERVER__PORT", "abc")
    assert main(["serve"]) == 1
    told = capsys.readouterr().err
    assert "  environment: HAL0_SERVER__PORT: is not a whole number (allowed: a whole number)\n" in told
    assert f"  {file}:2: memory.bogus: unknown key (allowed: " in told


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), PermissionError(errno.EACCES, "denied")]
)
def test_nobody_is_to_be_stopped_where_nobody_holds_the_port(error: OSError) -> None:
    refused = _cannot_listen("nohost", 80, error)
    assert "Stop" not in refused.hint
    assert "--host HOST" in refused.hint
    assert "Stop that program" in _cannot_listen("0.0.0.0", 80, OSError(errno.EADDRINUSE, "in use")).hint
