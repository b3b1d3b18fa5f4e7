"""Ids of requests: the client's own, or a new one."""

import itertools
import secrets
from collections.abc import Mapping
from typing import Final

from hal0.vocab import REQUEST_ID

# A random word of this process, and a number. It identifies and proves nothing.
_BOOT: Final = secrets.token_hex(4)
_COUNT: Final = itertools.count()


def own_request_id(headers: Mapping[str, str]) -> str | None:
    """The client's, when it is harmless."""
    given = headers.get("X-Request-ID")
    return given if given is not None and REQUEST_ID.match(given) else None


def new_request_id() -> str:
    """16 hex digits."""
    return f"{_BOOT}{next(_COUNT):08x}"
