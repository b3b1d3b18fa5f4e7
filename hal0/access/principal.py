"""Who asks, and what that allows: the answer of every access check. Pure."""

from dataclasses import dataclass
from typing import Final

from hal0.vocab import Access, Scope, SlotName

# Any one of these is enough.
_NEEDED: Final = {
    Access.INFERENCE: frozenset({Scope.INFERENCE, Scope.ADMIN}),
    Access.OWN: frozenset({Scope.INFERENCE, Scope.READ, Scope.ADMIN}),
    Access.READ: frozenset({Scope.READ, Scope.ADMIN}),
    Access.ADMIN: frozenset({Scope.ADMIN}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """`key_id` is None without a key, `session_id` without a signed-in session; `slots` None: not limited to any.

    `until` is when what it stands on ends by itself (the clock's seconds), None: never.
    """

    scopes: frozenset[Scope] = frozenset()
    key_id: str | None = None
    session_id: str | None = None
    slots: frozenset[SlotName] | None = None
    until: float | None = None

    def may(self, access: Access) -> bool:
        return access is Access.OPEN or not _NEEDED[access].isdisjoint(self.scopes)

    def holds(self, proof_id: str) -> bool:
        """Whether it stands on this key or session."""
        return proof_id in (self.key_id, self.session_id)


NOBODY: Final = Principal()
LOCAL: Final = Principal(frozenset({Scope.INFERENCE}))
OPERATOR: Final = Principal(frozenset(Scope))
