"""How an error looks to the client of a path: as a body, and as an event inside a stream that has begun."""

from typing import Any, Final

from hal0.dispatch.surface import Dialect
from hal0.errors import Hal0Error
from hal0.lib import jsonio

KEEPALIVE: Final = b": hal0 keep-alive\n\n"
FRAME_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")

# Anthropic's own words for what went wrong; any other refusal is invalid_request_error, any other failure api_error.
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: Hal0Error, dialect: Dialect, request_id: str | None) -> dict[str, Any]:
    """The error envelope that clients of this path expect; the members are the same, the wrapping differs."""
    body = error.body(request_id)
    if dialect is Dialect.ANTHROPIC:
        inner = body["error"] | {"type": anthropic_type(error.status)}
        return {"type": "error", "error": inner, "request_id": request_id}
    return body


def anthropic_type(status: int) -> str:
    """Anthropic's word for a failure with this status."""
    return _ANTHROPIC_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def error_event(error: Hal0Error, dialect: Dialect, request_id: str | None) -> bytes:
    """One event that ends a stream. It carries the status that can no longer be sent as one."""
    body = error_body(error, dialect, request_id)
    body["error"]["status"] = error.status
    if error.retry_after_s is not None:
        body["error"]["retry_after_s"] = round(error.retry_after_s, 3)
    return event(body, dialect)


def event(body: dict[str, Any], dialect: Dialect) -> bytes:
    """An error body as an event; only OpenAI's older streams know no event names."""
    name = b"" if dialect is Dialect.OPENAI else b"event: error\n"
    return name + b"data: " + jsonio.dumps(body) + b"\n\n"


def at_boundary(tail: bytes) -> bool:
    """Whether a stream whose last bytes are these is between two events (a stream not begun is)."""
    return not tail or tail.endswith(FRAME_ENDS)
