"""The README's command blocks, for the tests that check and run them."""

import re
from pathlib import Path
from typing import Final

README: Final = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
