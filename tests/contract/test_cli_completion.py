"""Completion in the real shells: the script is accepted and offers commands, flags and the slots of a live hal0."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal0.cli.completion import place
from hal0.cli.main import main
from hal0.vocab import SlotState
from tests.fakes.api_server import ApiServer, serving
from tests.fakes.api_views import MODEL, slot_view

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 30.0
HERE = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]

# Each prints what the shell's own completion machinery got for the words of a line that ends in "$2".
ASK = {
    "bash": """source "$1"
COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_hal0ctl_completion hal0ctl; printf '%s\\n' "${COMPREPLY[@]}" """,
    "zsh": """compdef() { : }; compadd() { print -l -- ${(P)@[-1]} }; _describe() { print -l -- ${(P)3} }
words=(${=2}); CURRENT=${#words}
source "$1"; _hal0ctl_completion 2>/dev/null""",
    "fish": """source $argv[1]; complete --do-complete $argv[2]""",
}


@pytest.fixture
def api(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A live hal0, and `hal0ctl` in PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "hal0ctl"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom hal0.cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HAL0_URL", raising=False)
    (home / "run").mkdir(parents=True)
    slots = [slot_view("primary", SlotState.READY), slot_view("coder", SlotState.ERROR)]
    with serving(ApiServer(slots={s.name: s for s in slots}), home / "run" / "hal0.sock") as server:
        yield server


def _offered(shell: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    script = tmp_path / f"completion.{shell}"
    script.write_text(capsys.readouterr().out)
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    rest = ["-c", ASK[shell], *([] if shell == "fish" else [shell]), str(script), line]
    ran = subprocess.run(
        [shell, *quiet, *rest],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return ran.stdout


def test_there_is_a_shell_to_try() -> None:
    assert "bash" in HERE


@pytest.mark.parametrize("shell", HERE)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hal0ctl slo", ["slot"]),
        ("hal0ctl slot lo", ["load", "logs"]),
        ("hal0ctl slot load pri", ["primary"]),
        ("hal0ctl slot load --mo", ["--model"]),
        (f"hal0ctl slot swap primary {MODEL[:1]}", [MODEL]),
        ("hal0ctl slot load primary --model c", [""]),  # a slot is no model that one could be given
        ("hal0ctl slot wait primary --for re", ["ready"]),
    ],
)
def test_words_are_offered(
    api: ApiServer, shell: str, line: str, offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _offered(shell, line, tmp_path, capsys)
    for word in offered:
        assert word in found
    assert "coder" not in found


@pytest.mark.parametrize("shell", HERE)
def test_silent_when_hal0_is_down(
    shell: str,
    home: Path,
    api: ApiServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HAL0_URL", "http://127.0.0.1:9")
    assert not _offered(shell, "hal0ctl slot load pri", tmp_path, capsys).strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_install_writes_where_the_shell_looks(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["completion", shell, "--install"]) == 0
    file = place(shell, os.environ)
    assert file.is_relative_to(tmp_path)
    assert "_HAL0CTL_COMPLETE" in file.read_text()
    assert str(file) in capsys.readouterr().err
