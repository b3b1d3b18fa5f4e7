"""Asking a server for a file or a list: the hub's token stays with the hub, and what goes wrong has hal0's words."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientResponse
from yarl import URL

from hal0.errors import Hal0Error
from hal0.outbound import AddressRefused, Unreachable
from hal0.outbound.client import Outside
from hal0.pulls.verdicts import Away, judge


@dataclass(frozen=True, slots=True)
class Hub:
    """Hugging Face, or a mirror of it: `endpoint` without a slash at its end. The token never appears in a repr."""

    endpoint: str
    token: str | None = field(default=None, repr=False)

    def headers(self, url: URL) -> dict[str, str]:
        """Nothing but the hub itself, over https, is shown the token."""
        if self.token is None or url.scheme != "https" or url.origin() != URL(self.endpoint).origin():
            return {}
        return {"Authorization": f"Bearer {self.token}"}


class Asker:
    def __init__(self, outside: Outside, hub: Hub) -> None:
        self._outside = outside
        self._hub = hub

    @property
    def hub(self) -> Hub:
        return self._hub

    @asynccontextmanager
    async def ask(
        self, url: str, what: str, repo: str | None, headers: Mapping[str, str]
    ) -> AsyncIterator[ClientResponse]:
        """An answer with content; `what` names it in words. Raises Again (Away when none came), Changed, Hal0Error."""
        try:
            async with self._outside.get(url, lambda hop: {**self._hub.headers(hop), **headers}) as response:
                judge(what, response.status, response.headers, repo=repo, token=self._hub.token is not None)
                yield response
        except AddressRefused as e:
            raise Hal0Error("pull.address_refused", f"cannot fetch {what}: {e}") from e
        except Unreachable as e:
            raise Away(str(e)) from e
