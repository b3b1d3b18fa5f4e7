"""Signed-in browsers: a link that works once makes a session, and a cookie proves it."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hal0.access.keys import SessionRecord, fresh_id, fresh_secret, hashed
from hal0.access.principal import Principal
from hal0.access.store import AccessStore
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock

_log: Final = logging.getLogger("hal0.access")

LINK_S: Final = 600.0
_LINKS: Final = 16  # open at a time; the oldest is forgotten
_SESSIONS: Final = 256


@dataclass(frozen=True, slots=True)
class _Link:
    """Good until `until`; what it brings ends with the key, and at `ends_at` with the text that asked for it."""

    until: float
    key_id: str | None
    ends_at: float | None


class Sessions:
    """Links live in memory only: one that was not used before a restart is asked for again."""

    def __init__(self, store: AccessStore, clock: Clock, *, admin_key_file: Path) -> None:
        self._store = store
        self._clock = clock
        self._admin_key_file = admin_key_file
        self._links: dict[str, _Link] = {}  # by hash

    def link(self, principal: Principal) -> tuple[str, float]:
        """A word that signs in once, and until when. What it brings ends with the key that asked for it, if any."""
        asking = self._store.sessions.get(principal.session_id or "")
        key_id = asking.key_id if asking is not None else principal.key_id
        word, until = fresh_secret(), self._clock.now() + LINK_S
        self._links[hashed(word)] = _Link(until, key_id, principal.until)
        while len(self._links) > _LINKS:
            del self._links[next(iter(self._links))]
        return word, until

    async def sign_in(self, word: str) -> tuple[SessionRecord, str]:
        """The session and its cookie for a link's word. Raises auth.required when it is no link (any more)."""
        link, now = self._links.pop(hashed(word), None), self._clock.now()
        ends_at = None if link is None else self._ends_at(link)
        if link is None or now >= min(link.until, ends_at or link.until) or not self._key_lives(link.key_id):
            message = "cannot sign in: this link was used already, or is older than ten minutes"
            raise Hal0Error("auth.required", message, hint="Make a new one with: hal0ctl open")
        return await self.open(link.key_id, ends_at)

    async def open(self, key_id: str | None, until: float | None) -> tuple[SessionRecord, str]:
        """A session for somebody who has proven to be the operator, until then at most. Raises state.write_failed."""
        session_id, now = fresh_id(), self._clock.now()
        cookie = f"{session_id}_{fresh_secret()}"
        record = SessionRecord(
            id=session_id, hash=hashed(cookie), created_at=now, last_used=now, key_id=key_id, until=until
        )
        self._forget_old(now)
        self._store.sessions[session_id] = record
        try:
            await self._store.save()
        except Hal0Error:
            del self._store.sessions[session_id]
            raise
        self._store.changed()
        return record, cookie

    def recognise(self, cookie: str) -> SessionRecord | None:
        """The session that a cookie proves; None for one that has ended."""
        record = self._store.sessions.get(cookie.partition("_")[0])
        if record is None or not record.proven_by(cookie) or not self._lives(record):
            return None
        return record

    def principal(self, record: SessionRecord) -> Principal:
        return record.principal(self._store.keys.get(record.key_id or ""))

    def use(self, session_id: str) -> None:
        """A request of a session moves its end. Raises auth.required when it has ended since."""
        record, now = self._store.sessions.get(session_id), self._clock.now()
        if record is None or not self._lives(record):
            raise Hal0Error("auth.required", "cannot let this through: the session has ended", hint="hal0ctl open")
        self._store.sessions[session_id] = replace(record, last_used=now)
        self._store.stale()

    async def sign_out(self, session_id: str) -> None:
        """Raises state.write_failed, which says that it would be back after a restart."""
        self._store.sessions.pop(session_id, None)
        self._store.changed()
        self._store.end(session_id)
        await self._store.save()

    def forget_admin_key(self) -> None:
        """Somebody has signed in: the key of the first start need not lie there any more. Blocking."""
        try:
            self._admin_key_file.unlink(missing_ok=True)
        except OSError as err:
            _log.warning("cannot remove %s: %s", self._admin_key_file, err.strerror or err)

    def _lives(self, record: SessionRecord) -> bool:
        return self._clock.now() < record.expires_at and self._key_lives(record.key_id)

    def _key_lives(self, key_id: str | None) -> bool:
        """Whether the key that a session or a link goes back to is still good."""
        key = self._store.keys.get(key_id or "")
        return key_id is None or (key is not None and not key.expired(self._clock.now()))

    def _ends_at(self, link: _Link) -> float | None:
        """When the text ends that asked for it; a rotation since then counts, too."""
        key, ends = self._store.keys.get(link.key_id or ""), [link.ends_at]
        if key is not None and key.rotated_at is not None and key.rotated_at >= link.until - LINK_S:
            ends.append(key.old_until or key.rotated_at)
        return min((end for end in ends if end is not None), default=None)

    def _forget_old(self, now: float) -> None:
        """Those that have ended by themselves; of too many, those that are unused for longest."""
        by_use = sorted(self._store.sessions.values(), key=lambda session: session.last_used)
        over = len(by_use) - _SESSIONS + 1
        for place, session in enumerate(by_use):
            if place < over or now >= session.expires_at:
                del self._store.sessions[session.id]
                self._store.end(session.id)
