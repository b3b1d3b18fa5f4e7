"""`hal0 serve` that cannot start: what it says of a configuration at fault."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal0.__main__ import main


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
