"""Renders every failure as JSON in the shape that the path's clients expect."""

from typing import Final

from aiohttp import web

from hal0.dispatch.frames import error_body
from hal0.dispatch.surface import Dialect, dialect_of, id_headers
from hal0.errors import Hal0Error
from hal0.lib import jsonio

# For every answer of hal0's own; pages that need more say so themselves.
SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
}


def refusal(error: Hal0Error, dialect: Dialect, request_id: str | None) -> tuple[dict[str, str], bytes]:
    """The one place where a Hal0Error becomes an answer: its headers and its body."""
    ids = id_headers(dialect, request_id) if request_id else {}
    headers = {"Content-Type": "application/json", **SECURITY, **error.headers(), **ids}
    return headers, jsonio.dumps(error_body(error, dialect, request_id))


def error_response(error: Hal0Error, path: str, request_id: str | None) -> web.Response:
    headers, body = refusal(error, dialect_of(path), request_id)
    return web.Response(status=error.status, body=body, headers=headers)


def from_http(error: web.HTTPException, method: str, path: str) -> Hal0Error:
    """aiohttp's own refusals in hal0's words."""
    match error:
        case web.HTTPNotFound():
            return Hal0Error("request.not_found", f"cannot find {path}")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Hal0Error("request.method", f"cannot {method} {path}: it takes {allowed}")
        case web.HTTPRequestEntityTooLarge():
            return Hal0Error("request.too_large", "cannot take the body: it is too large")
        case _ if error.status < 500:
            return Hal0Error("request.invalid", f"cannot {method} {path}: {error.reason}")
        case _:
            return Hal0Error("system.internal", f"cannot {method} {path}: {error.reason}")
