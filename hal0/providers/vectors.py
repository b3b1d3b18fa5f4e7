"""Embeddings in the form that was asked for: numbers, or base64 of little-endian 32-bit floats."""

import base64
import struct
from collections.abc import Mapping
from typing import Any

from hal0.lib import jsonio


def in_asked_format(request: Mapping[str, Any], answer: bytes) -> bytes:
    """An OpenAI embeddings answer with every vector in the request's `encoding_format` (absent: float).

    For engines that ignore the member; fits `Forward.convert`. An answer that is right already, or that holds
    no vectors, comes back as the same bytes.
    """
    want_base64 = request.get("encoding_format") == "base64"
    try:
        body = jsonio.loads(answer)
    except jsonio.JSONDecodeError:
        return answer
    data = body.get("data") if isinstance(body, dict) else None
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    wrong = [item for item in items if isinstance(item.get("embedding"), list if want_base64 else str)]
    if not wrong:
        return answer
    try:
        for item in wrong:
            item["embedding"] = encode(item["embedding"]) if want_base64 else decode(item["embedding"])
    except (ValueError, OverflowError, struct.error):
        return answer
    return jsonio.dumps(body)


def encode(vector: list[float]) -> str:
    """Numbers as base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def decode(text: str) -> list[float]:
    """The reverse of `encode`. Raises ValueError when the text is not base64 of whole floats."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) % 4:
        raise ValueError(f"{len(raw)} bytes are no whole number of 32-bit floats")
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))
