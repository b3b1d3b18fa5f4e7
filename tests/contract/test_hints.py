"""Every command that a message, a hint or a page of hal0 tells people to type is one that exists."""

import re
from pathlib import Path

import click
import pytest

from hal0.cli.main import root
from hal0.cli.names import ALIASES

TOP = Path(__file__).parents[2]
TEXTS = sorted([*(TOP / "hal0").rglob("*.py"), *(TOP / "web").rglob("*.html"), TOP / "README.md"])
MENTION = re.compile(r"hal0ctl ((?:[a-z][a-z-]+)(?: [a-z][a-z-]+)?)")
# Words that follow "hal0ctl" in a sentence about it, not in a command.
PROSE = {
    "is",
    "on",
    "and",
    "or",
    "goes",
    "for",
    "of",
    "has",
    "over",
    "uses",
    "alone",
    "without",
    "answers",
    "through",
    "from",
    "looks",
    "reads",
}


def mentioned() -> list[tuple[str, str]]:
    found = []
    for path in TEXTS:
        for match in MENTION.finditer(path.read_text()):
            words = match[1].split()
            if words[0] not in PROSE:
                found.append((str(path.relative_to(TOP)), match[1]))
    return found


@pytest.mark.parametrize(("where", "words"), sorted(set(mentioned())))
def test_the_command_exists(where: str, words: str) -> None:
    context = click.Context(root)
    first, *rest = words.split()
    command = root.get_command(context, ALIASES.get(first, first))
    assert command is not None, f"{where} names `hal0ctl {first}`, which does not exist"
    if rest and isinstance(command, click.Group):
        known = command.get_command(context, rest[0])
        assert known is not None, f"{where} names `hal0ctl {words}`, which does not exist"
