"""Keys and sessions as seen over HTTP. The text of a key is in one answer only, the one to whoever made it."""

from typing import Annotated

from pydantic import Field

from hal0.vocab import Scope
from hal0.wire.base import ListView, View

_LONGEST_S = 10 * 366 * 86400.0

Label = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="1 to 64 letters, digits and . _ -, a letter or a digit first",
    ),
]


class KeyView(View):
    """`slots` and `rate_per_minute` are None where there is no limit; `old_until` is the end of a rotation's grace."""

    id: str
    label: str
    scopes: list[Scope]
    slots: list[str] | None
    rate_per_minute: int | None
    created_at: float
    expires_at: float | None
    last_used: float | None
    rotated_at: float | None
    old_until: float | None


class MadeKeyView(KeyView):
    """`key` is the secret itself, shown this once."""

    key: str


class KeysView(ListView):
    items: list[KeyView]


class CreateKeyRequest(View):
    """Body of POST /api/keys."""

    label: Label
    scopes: list[Scope] = Field([Scope.INFERENCE], min_length=1)
    slots: list[str] | None = Field(None, min_length=1)
    rate_per_minute: int | None = Field(None, ge=1, le=1_000_000)
    expires_in_s: float | None = Field(None, gt=0, le=_LONGEST_S)


class RotateKeyRequest(View):
    """Body of POST /api/keys/{id}/rotate: how long the old text stays good."""

    grace_s: float = Field(0, ge=0, le=_LONGEST_S)


class LinkView(View):
    """`path` is to be opened in a browser, at any address that reaches this hal0; it works once, until `expires_at`."""

    path: str
    expires_at: float


class SignInRequest(View):
    """Body of POST /api/session: the word of a sign-in link, or a key with the scope admin."""

    link: str | None = Field(None, max_length=128)
    key: str | None = Field(None, max_length=128)


class SessionView(View):
    """Who asks. `csrf` and `expires_at` are a signed-in browser's; `key_id` a key's."""

    scopes: list[Scope]
    key_id: str | None
    csrf: str | None
    expires_at: float | None
