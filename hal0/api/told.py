"""What is noted of requests that no dispatcher remembers: who was turned away, and the operator's verbs."""

import logging
from typing import Final

from aiohttp import web

from hal0.access.keys import without_secrets
from hal0.access.principal import NOBODY, Principal
from hal0.api.middleware import PRINCIPAL_KEY, REQUEST_ID_KEY
from hal0.api.route import route_of
from hal0.services import Services
from hal0.vocab import Access

_log: Final = logging.getLogger("hal0.api")
_REFUSED: Final = 400
_INFERENCE: Final = "/v1/"  # also what there is nothing of


class Told:
    """What an operator changes is an entry of the activity. Of the rest, failures are a line of the log."""

    def __init__(self, services: Services) -> None:
        self._dispatcher = services.dispatcher
        self._feed = services.past.feed

    def __call__(self, request: web.Request, status: int, code: str | None) -> None:
        route, principal = route_of(request), request.get(PRINCIPAL_KEY)
        recorded = route is not None and route.recorded
        if recorded and principal is not None:
            return  # the dispatcher has seen it
        # Whoever means a key by its text, as to revoke it, is not to find it in the history.
        path = without_secrets(request.path)
        if status >= _REFUSED and (recorded or request.path.startswith(_INFERENCE)):
            self._dispatcher.turned_away(request, request[REQUEST_ID_KEY], status, code, principal or NOBODY)
        elif route is not None and route.access is Access.ADMIN and principal is not None:
            ended = f"it ended with {status} {code}" if code else "done"
            kind = "operator.done" if code is None else "operator.refused"
            self._feed.say(kind, path, f"{request.method} {path}: {ended}", _who(principal))
        else:
            level = logging.INFO if status >= _REFUSED else logging.DEBUG
            # What is open to everybody who knows its name has a secret for a name, such as a sign-in link.
            told = route.path if route is not None and route.access is Access.OPEN else path
            _log.log(level, "%s %s: %d %s", request.method, told, status, code or "")


def _who(principal: Principal) -> str:
    if principal.key_id is not None:
        return f"key {principal.key_id}"
    return "session" if principal.session_id is not None else "socket"
