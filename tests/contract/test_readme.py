"""The README: every command in it exists, every path in it is there, and a newcomer reads it in three minutes."""

import re
from pathlib import Path
from typing import Final

import click
import pytest

from hal0.cli.main import root
from hal0.vocab import BUILTIN_SLOTS
from tests.readme import README, blocks

ROOT: Final = Path(__file__).parents[2]
WORDS: Final = 1000  # three minutes, tables and commands skimmed


def test_it_is_short() -> None:
    assert len(README.read_text().split()) <= WORDS


def test_every_make_target_it_names_exists() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^|\s)make ([a-z]+)(?=`|\s+#|$)", README.read_text(), re.MULTILINE))
    assert {"run", "test"} <= named <= known


@pytest.mark.parametrize("line", re.findall(r"\b(hal0ctl [^`\n]+)", README.read_text()))
def test_every_hal0ctl_command_it_names_exists(line: str) -> None:
    words = line.partition("#")[0].split()[1:]
    command: click.Command = root
    context = click.Context(root, info_name="hal0ctl")
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None:
            return _prose(line)
        command, words = found, words[1:]
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= options
    return None


def _prose(line: str) -> None:
    """`hal0ctl` as a word of a sentence."""
    assert line not in "\n".join(blocks("sh"))


def test_every_file_and_folder_it_names_is_there() -> None:
    text = README.read_text()
    named = set(re.findall(r"\]\(([^)#]+)\)", text)) | set(
        re.findall(r"`((?:hal0|web|images|etc|tests)/[a-z/]*)`", text)
    )
    assert {"LICENSE", "hal0/slots/design.md", "tests/"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_it_names_the_slots_that_there_are() -> None:
    assert f"all five: {', '.join(BUILTIN_SLOTS)}" in README.read_text()
