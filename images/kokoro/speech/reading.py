"""Texts that espeak-ng would spell out instead of reading them."""

import re
from typing import Final

from serving.errors import Refusal

_JAPANESE: Final = "ja"
# It reads Japanese in kana; of each of these signs it says no more than that it is one.
_KANJI: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


def refuse_unreadable(text: str, language: str) -> None:
    """Raises Refusal for a text that would come out as something else than what it says."""
    if language == _JAPANESE and _KANJI.search(text):
        said = "input has kanji, and the Japanese voices read only kana (hiragana, katakana)"
        raise Refusal(400, said, param="input", code="unsupported")
