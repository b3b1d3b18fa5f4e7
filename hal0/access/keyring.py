"""Keys in use: made, rotated, revoked, and recognised in what a request brings."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hal0.access.keys import KeyRecord, SessionRecord, fresh_id, hashed, id_of, mint
from hal0.access.limits import Buckets
from hal0.access.store import AccessStore
from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic
from hal0.lib.clock import Clock
from hal0.vocab import Scope, SlotName

_ADMIN_LABEL: Final = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDraft:
    """What somebody wants of a new key. `slots` and `rate_per_minute` None: no limit; `expires_in_s` None: never."""

    label: str
    scopes: tuple[Scope, ...]
    slots: tuple[SlotName, ...] | None = None
    rate_per_minute: int | None = None
    expires_in_s: float | None = None


class Keyring:
    """All keys. The text of a key is answered once, when it is made, and kept nowhere."""

    def __init__(self, store: AccessStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._rates = Buckets()

    def records(self) -> Sequence[KeyRecord]:
        """In the order in which they were made."""
        return list(self._store.keys.values())

    def recognise(self, text: str) -> KeyRecord | None:
        """The key that `text` is; None for what is no valid key (any more)."""
        key_id = id_of(text)
        record = self._store.keys.get(key_id or "")
        now = self._clock.now()
        if record is None or not record.proven_by(text, now) or record.expired(now):
            return None
        return record

    def use(self, key_id: str) -> None:
        """Count one request of a key that was recognised. Raises auth.required when it has ended since, and
        auth.rate_limited."""
        record, now = self._store.keys.get(key_id), self._clock.now()
        if record is None or record.expired(now):
            raise Hal0Error("auth.required", "cannot let this through: the key is not valid any more")
        if record.rate_per_minute is not None:
            wait_s = self._rates.take(key_id, record.rate_per_minute, now)
            if wait_s:
                message = f"cannot take the request: key {record.label!r} has {record.rate_per_minute} a minute"
                raise Hal0Error("auth.rate_limited", message, retry_after_s=wait_s)
        self._store.keys[key_id] = replace(record, last_used=now)
        self._store.stale()

    async def create(self, draft: KeyDraft) -> tuple[KeyRecord, str]:
        """The record and the text. Raises request.invalid, state.write_failed (then there is no such key)."""
        self._check(draft)
        key_id, now = fresh_id(), self._clock.now()
        text = mint(key_id)
        record = KeyRecord(
            id=key_id,
            label=draft.label,
            hash=hashed(text),
            scopes=draft.scopes,
            slots=draft.slots,
            rate_per_minute=draft.rate_per_minute,
            created_at=now,
            expires_at=None if draft.expires_in_s is None else now + draft.expires_in_s,
        )
        self._store.keys[key_id] = record
        try:
            await self._store.save()
        except Hal0Error:
            del self._store.keys[key_id]
            raise
        self._store.changed()
        return record, text

    async def rotate(self, name: str, *, grace_s: float) -> tuple[KeyRecord, str]:
        """A new text for the key of this id or label; the old one is good for `grace_s` more.

        What is open under the old text ends with it, and who signed in with it. Raises request.not_found,
        state.write_failed (then nothing has changed).
        """
        old, now = self.find(name), self._clock.now()
        text = mint(old.id)
        new = self._store.keys[old.id] = old.rotated(text, now, grace_s=grace_s)
        sessions = self._sessions_of(old.id)
        for session in sessions:
            self._store.sessions[session.id] = session.ending(now + grace_s)
        try:
            await self._store.save()
        except Hal0Error:
            self._take_back(old, new, sessions)
            raise
        self._store.changed()
        if new.old_until is None:
            self._end(old.id)
        else:
            for proof_id in (old.id, *(session.id for session in sessions)):
                self._store.end_at(proof_id, new.old_until)
        return new, text

    async def revoke(self, name: str) -> KeyRecord:
        """From now on the key of this id or label is worth nothing, and what it has open ends.

        Raises request.not_found; state.write_failed says that it would be back after a restart.
        """
        record = self.find(name)
        del self._store.keys[record.id]
        self._store.changed()
        self._end(record.id)
        await self._store.save()
        return record

    def find(self, name: str) -> KeyRecord:
        """By id, else by label. Raises request.not_found."""
        found = self._store.keys.get(name) or next((key for key in self.records() if key.label == name), None)
        if found is None:
            raise Hal0Error("request.not_found", f"cannot find a key {name!r}", hint="hal0ctl key list")
        return found

    async def first(self, file: Path) -> str:
        """The admin key of a new hal0, in `file` too, until somebody signs in. Raises state.write_failed."""
        _, text = await self.create(KeyDraft(label=_ADMIN_LABEL, scopes=(Scope.ADMIN,)))
        try:
            await asyncio.to_thread(write_atomic, file, text.encode() + b"\n")
        except OSError as err:
            raise Hal0Error("state.write_failed", f"cannot write {file}: {err.strerror or err}") from err
        return text

    def _end(self, key_id: str) -> None:
        """What stands on the key: its own connections, and the sessions that came from it."""
        self._store.end(key_id)
        for session in self._sessions_of(key_id):
            del self._store.sessions[session.id]
            self._store.end(session.id)

    def _sessions_of(self, key_id: str) -> list[SessionRecord]:
        return [session for session in self._store.sessions.values() if session.key_id == key_id]

    def _take_back(self, old: KeyRecord, new: KeyRecord, sessions: Sequence[SessionRecord]) -> None:
        """A rotation that could not be written; what was revoked or rotated again meanwhile stays so."""
        key = self._store.keys.get(old.id)
        if key is None or key.hash != new.hash:
            return
        self._store.keys[old.id] = replace(old, last_used=key.last_used)
        for before in sessions:
            if (session := self._store.sessions.get(before.id)) is not None:
                self._store.sessions[before.id] = replace(session, until=before.until)

    def _check(self, draft: KeyDraft) -> None:
        if any(key.label == draft.label for key in self.records()):
            raise Hal0Error("request.invalid", f"cannot make a key {draft.label!r}: there is one", param="label")
        if draft.slots is not None and set(draft.scopes) != {Scope.INFERENCE}:
            raise Hal0Error(
                "request.invalid", "cannot limit this key to slots: only inference knows slots", param="slots"
            )
