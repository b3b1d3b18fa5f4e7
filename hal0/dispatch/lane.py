"""What requests with the same head have in common, found out once: a client's next request rarely has another head."""

from dataclasses import dataclass, field

from hal0.access.principal import Principal
from hal0.dispatch.asked import Asked
from hal0.dispatch.headers import request_start
from hal0.dispatch.surface import PathRow
from hal0.providers.base import Endpoint


@dataclass(slots=True)
class Lane:
    """One head on one connection, let in as `principal`."""

    asked: Asked
    row: PathRow
    principal: Principal
    _to: tuple[str, Endpoint] | None = field(default=None, init=False)
    _start: bytes = field(default=b"", init=False)

    def start_for(self, path: str, endpoint: Endpoint) -> bytes:
        """The head of the request to a slot, but for its last line; see `headers.request_end`."""
        if self._to is None or self._to[1] is not endpoint or self._to[0] != path:
            self._to = (path, endpoint)
            self._start = request_start("POST", path.encode(), self.asked.raw_headers, endpoint, identity=False)
        return self._start
