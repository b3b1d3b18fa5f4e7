"""Calls to addresses that somebody else chose: a model's link, a picture in a request.

`rules` says which addresses may be called; `client` calls no other, whatever names resolve to or servers redirect to;
`names` resolves them.
"""

from typing import Final

# Answers that lead elsewhere. A client that followed an engine's or an upstream's would show its key for hal0 to
# whoever stands there.
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Unreachable(Exception):
    """The address gave no usable answer; the text says why, and names no secret."""


class AddressRefused(Unreachable):
    """hal0 does not call it."""
