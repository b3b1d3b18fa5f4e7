"""Which web pages of other origins may call, and what a browser is told about it (CORS). Pure.

`/v1` is for the pages that `access.cors_origins` names, with a key of theirs and never with a cookie; nothing else of
hal0 is for other pages at all.
"""

from collections.abc import Collection
from typing import Final

_PREFIX: Final = "/v1/"
_EVERYBODY: Final = "*"
_PREFLIGHT_S: Final = 600  # browsers keep an answer this long; the configuration may change
_READABLE: Final = ", ".join(
    (
        *("X-Request-ID", "X-Hal0-Slot", "X-Hal0-Upstream", "X-Hal0-Rule", "X-Hal0-Overhead-Ms"),
        *("X-Hal0-Queue-Position", "Retry-After", "x-should-retry"),
    )
)


def page_allowed(origin: str | None, path: str, origins: Collection[str]) -> bool:
    return origin is not None and path.startswith(_PREFIX) and (_EVERYBODY in origins or origin in origins)


def answer_headers(origin: str) -> dict[str, str]:
    """For an answer to an allowed page."""
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Access-Control-Expose-Headers": _READABLE}


def preflight_headers(origin: str, headers: str | None, *, private_network: bool) -> dict[str, str]:
    """For an allowed page that asks first. `headers` are those it wants to send: clients have their own, all pass."""
    allowed = {
        "Access-Control-Allow-Origin": origin,
        "Vary": "Origin",
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Max-Age": str(_PREFLIGHT_S),
    }
    if headers:
        allowed["Access-Control-Allow-Headers"] = headers
    if private_network:
        allowed["Access-Control-Allow-Private-Network"] = "true"
    return allowed
