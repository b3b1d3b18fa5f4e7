"""A request that is refused, in the words and the shape that OpenAI's clients read."""

import json
from collections.abc import Iterable

from aiohttp import web


class Refusal(Exception):
    """Answered as `{"error": ...}`. `param` names the member of the request that is wrong, `code` is for programs."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def response(self) -> web.Response:
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        return web.Response(
            status=self.status, body=json.dumps(self.body()), content_type="application/json", headers=headers
        )

    def body(self) -> dict[str, object]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def not_allowed(param: str, asked: object, allowed: Iterable[str]) -> Refusal:
    """A value outside a closed list; the list is in the message."""
    words = ", ".join(allowed)
    return Refusal(
        400, f"{param} {str(asked)[:100]!r} is not known; allowed: {words}", param=param, code="invalid_value"
    )
