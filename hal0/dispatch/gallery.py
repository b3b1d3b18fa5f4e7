"""Pictures that clients were given an address of: kept for an hour, under names that nobody can guess."""

import asyncio
import secrets
from typing import Final, NamedTuple

from hal0.dispatch.body import Spool, SpoolFile
from hal0.errors import Hal0Error

LIFETIME_S: Final = 3600.0  # as OpenAI's addresses live
MAX_PICTURES: Final = 200
MAX_BYTES: Final = 256 << 20  # some hundred of the largest that are commonly made
_NAME_BYTES: Final = 32


class Picture(NamedTuple):
    """One picture, whole."""

    data: bytes
    content_type: str


class _Kept(NamedTuple):
    file: SpoolFile
    size: int
    content_type: str
    expiry: asyncio.TimerHandle


class Gallery:
    """Keeps pictures in the spool, whose files have no names there: when hal0 ends, nothing is left behind.

    The newest MAX_PICTURES within MAX_BYTES are kept; whoever has waited longest makes room. `close()` lets go of all.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._kept: dict[str, _Kept] = {}  # oldest first
        self._held = 0

    async def keep(self, picture: Picture) -> str:
        """The name it can be asked for by. Raises state.write_failed."""
        size = len(picture.data)
        try:
            file = await self._spool.create()
            try:
                await file.append(picture.data)
            except BaseException:  # the client may leave meanwhile: its share of the spool is given back
                file.close()
                raise
        except OSError as error:
            raise Hal0Error("state.write_failed", f"cannot keep a picture on disk: {error}") from error
        name = secrets.token_urlsafe(_NAME_BYTES)
        expiry = asyncio.get_running_loop().call_later(LIFETIME_S, self._drop, name)
        self._kept[name] = _Kept(file, size, picture.content_type, expiry)
        self._held += size
        self._make_room()
        return name

    async def get(self, name: str) -> Picture:
        """Raises request.not_found for what is not there, or not any more."""
        kept = self._kept.get(name)
        if kept is None:
            raise Hal0Error("request.not_found", "cannot find this picture: it is kept for an hour")
        return Picture(await kept.file.read(0, kept.size), kept.content_type)

    def close(self) -> None:
        for name in list(self._kept):
            self._drop(name)

    def _make_room(self) -> None:
        """The newest one stays, however large it is."""
        while len(self._kept) > 1 and (len(self._kept) > MAX_PICTURES or self._held > MAX_BYTES):
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name)
        self._held -= kept.size
        kept.expiry.cancel()
        kept.file.close()
