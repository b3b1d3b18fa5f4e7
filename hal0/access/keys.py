"""Keys and sessions as they are at rest, and what a text somebody sends proves. Pure.

A key is `hal0_<id>_<256 random bits>`. At rest there is only its SHA-256: with so many random bits nothing slower is
needed, and a check stays cheap enough for every request.
"""

import hmac
import re
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from hal0.access.principal import Principal
from hal0.vocab import Scope, SlotName

_KEY: Final = re.compile(r"hal0_([0-9a-f]{8})_[0-9a-f]{64}\Z")
_KEY_WITHIN: Final = re.compile(r"(hal0_[0-9a-f]{8}_)[0-9a-f]{64}")
_SECRET_BYTES: Final = 32
SESSION_S: Final = 12 * 3600.0  # since its last request


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """Times are seconds since the epoch. `old_hash` is still good until `old_until`: the grace of a rotation."""

    id: str
    label: str
    hash: str
    scopes: tuple[Scope, ...]
    slots: tuple[SlotName, ...] | None = None
    rate_per_minute: int | None = None
    created_at: float
    expires_at: float | None = None
    last_used: float | None = None
    rotated_at: float | None = None
    old_hash: str | None = None
    old_until: float | None = None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def proven_by(self, text: str, now: float) -> bool:
        """Whether `text` is this key. How long it takes tells nothing about the secret."""
        given = hashed(text)
        current = hmac.compare_digest(given, self.hash)
        old = hmac.compare_digest(given, self.old_hash or "")
        return current or (old and self.old_until is not None and now < self.old_until)

    def principal(self, text: str) -> Principal:
        """Whoever has proven this key with `text`, for as long as that text is good."""
        slots = None if self.slots is None else frozenset(self.slots)
        old = not hmac.compare_digest(hashed(text), self.hash)
        ends = [end for end in (self.expires_at, self.old_until if old else None) if end is not None]
        return Principal(frozenset(self.scopes), key_id=self.id, slots=slots, until=min(ends, default=None))

    def rotated(self, text: str, now: float, *, grace_s: float) -> "KeyRecord":
        old = (self.hash, now + grace_s) if grace_s else (None, None)
        return replace(self, hash=hashed(text), rotated_at=now, old_hash=old[0], old_until=old[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A signed-in browser. `key_id` is the key that it goes back to, if any: it ends with it, and at `until` with the
    text of that key which it was made with."""

    id: str
    hash: str
    created_at: float
    last_used: float
    key_id: str | None = None
    until: float | None = None

    @property
    def expires_at(self) -> float:
        unused = self.last_used + SESSION_S
        return unused if self.until is None else min(unused, self.until)

    def ending(self, at: float) -> "SessionRecord":
        """The same, good until then at most."""
        return replace(self, until=at if self.until is None else min(at, self.until))

    def proven_by(self, cookie: str) -> bool:
        return hmac.compare_digest(hashed(cookie), self.hash)

    def principal(self, key: KeyRecord | None) -> Principal:
        """`key` is the one that it goes back to."""
        ends = [end for end in (self.until, None if key is None else key.expires_at) if end is not None]
        return Principal(frozenset(Scope), session_id=self.id, until=min(ends, default=None))


def fresh_id() -> str:
    return secrets.token_hex(4)


def mint(key_id: str) -> str:
    """A new text for a key."""
    return f"hal0_{key_id}_{fresh_secret()}"


def fresh_secret() -> str:
    return secrets.token_hex(_SECRET_BYTES)


def id_of(text: str) -> str | None:
    """The id in a text that has the form of a key; None for any other text."""
    found = _KEY.match(text)
    return found[1] if found else None


def without_secrets(text: str) -> str:
    """The text, of every key in it the id alone: what is remembered is read by more people than may know a key."""
    return _KEY_WITHIN.sub(r"\1...", text)


def hashed(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_of(cookie: str) -> str:
    """What a page of hal0's own sends beside its cookie: other pages can send the cookie, but not read this."""
    return hashed(f"csrf:{cookie}")
