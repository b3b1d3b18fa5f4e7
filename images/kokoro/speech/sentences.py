"""A text as the pieces that are spoken one after the other: sentences, and parts of those that are too long."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# A piece stays well below the 510 phonemes of one pass, and its first sound is not long in coming.
LONGEST: Final = 250  # characters
_AFTER_SENTENCE_S: Final = 0.25
_AFTER_CLAUSE_S: Final = 0.1
_AFTER_PARAGRAPH_S: Final = 0.5

# Where a sentence ends: at marks followed by a space, or at the full-width marks of Chinese and Japanese, which have
# none after them. Hindi ends with a danda.
_END: Final = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s)|[。！？｡]+[”’」』）]*|।+""")  # noqa: RUF001
_CLAUSE: Final = re.compile(r"[,;:–—](?=\s)|[、，；：]")  # noqa: RUF001
_PARAGRAPH: Final = re.compile(r"\n\s*\n")
# A dot behind these ends no sentence. Initials, too: J. R. R. Tolkien.
_ABBREVIATIONS: Final = frozenset(
    {"al", "approx", "av", "capt", "cf", "co", "col", "dept", "dott", "dr", "e.g", "est", "etc", "fig", "ft", "gen"}
    | {"hon", "i.e", "inc", "jr", "ltd", "m", "mlle", "mme", "mr", "mrs", "ms", "mt", "no", "prof", "rev", "sgt", "sig"}
    | {"sr", "sra", "st", "vol", "vs"}
)
_LAST_WORD: Final = re.compile(r"[\w.]+\Z")


@dataclass(frozen=True, slots=True)
class Piece:
    """`pause_s`: silence to follow before the next piece."""

    text: str
    pause_s: float


def pieces(text: str, longest: int = LONGEST) -> list[Piece]:
    """Nothing of the text is lost but white space; empty for a text of nothing else. The last one has no pause.

    None has more than `longest` characters.
    """
    found: list[Piece] = []
    for paragraph in _PARAGRAPH.split(text):
        sentences = _sentences(" ".join(paragraph.split()))
        inside = [piece for sentence in sentences for piece in _parts(sentence, longest)]
        if inside:
            found += [*inside[:-1], Piece(inside[-1].text, _AFTER_PARAGRAPH_S)]
    if found:
        found[-1] = Piece(found[-1].text, 0.0)
    return found


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(paragraph):
        if match[0].startswith(".") and _is_abbreviation(paragraph[start : match.start()]):
            continue
        yield paragraph[start : match.end()].strip()
        start = match.end()
    if rest := paragraph[start:].strip():
        yield rest


def _is_abbreviation(before: str) -> bool:
    word = _LAST_WORD.search(before)
    return word is not None and (word[0].lower() in _ABBREVIATIONS or (len(word[0]) == 1 and word[0].isupper()))


def _parts(sentence: str, longest: int) -> Iterator[Piece]:
    while len(sentence) > longest:
        at = _cut(sentence, longest)
        yield Piece(sentence[:at].strip(), _AFTER_CLAUSE_S)
        sentence = sentence[at:].strip()
    yield Piece(sentence, _AFTER_SENTENCE_S)


def _cut(sentence: str, longest: int) -> int:
    """After the last clause that fits, else between words, else anywhere."""
    within = sentence[: longest + 1]
    clauses = [match.end() for match in _CLAUSE.finditer(within)]
    if clauses and clauses[-1] <= longest:
        return clauses[-1]
    space = within.rfind(" ")
    return space if space > 0 else longest
