"""Calls to addresses that somebody else chose: a model's link, a picture in a request.

`rules` says which addresses may be called; `client` calls no other, whatever names resolve to or servers redirect to;
`names` resolves them.
"""


class Unreachable(Exception):
    """The address gave no usable answer; the text says why, and names no secret."""


class AddressRefused(Unreachable):
    """hal0 does not call it."""
