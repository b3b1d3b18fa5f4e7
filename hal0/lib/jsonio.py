"""The one JSON codec: orjson, with the options hal0 uses everywhere."""

from typing import Any

import orjson

JSONDecodeError = orjson.JSONDecodeError
JSONEncodeError = orjson.JSONEncodeError


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return orjson.dumps(value)


def dumps_to_keep(value: Any) -> bytes:
    """`dumps` for what stays in memory: orjson returns bytes with all the room it wrote into, 8 KB for 600 bytes."""
    return bytes(memoryview(orjson.dumps(value)))


def dumps_pretty(value: Any) -> bytes:
    """Indented UTF-8 JSON with a final newline, for files that people read."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Parse JSON; raises JSONDecodeError (a ValueError)."""
    return orjson.loads(data)
