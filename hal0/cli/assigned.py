"""KEY=VALUE on the command line, and such values in words."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from hal0.client import Json


def assigned(words: Iterable[str], fields: Sequence[str]) -> Json:
    """The fields that are given, by name; None for KEY=, which takes a value away."""
    body: Json = {}
    for word in words:
        key, given, text = word.partition("=")
        if not given or key not in fields:
            raise click.UsageError(f"{word!r}: write KEY=VALUE, with one of {', '.join(fields)}")
        body[key] = _value(text)
    return body


def value_text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _value(text: str) -> Any:
    """Numbers, lists and tables as JSON has them; everything else is a text, and nothing is no value."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
