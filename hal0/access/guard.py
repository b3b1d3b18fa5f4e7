"""The access rule: may this caller use a route of this class? Pure.

The Unix socket gives everything: whoever may open the file is the operator. Over TCP a key or a session gives what it
says. Without one only `/v1` is given away, and only to programs of this machine (and, where the operator wants it, of
the private network); a proxy in front makes the whole network look like this machine, so everything that smells of
one (its headers, its account, a foreign host name or page) takes that right away again.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

from hal0.access.addresses import is_known_host, is_local_host, is_loopback, is_private, same_origin
from hal0.access.principal import LOCAL, NOBODY, OPERATOR, Principal
from hal0.errors import Hal0Error
from hal0.vocab import Access, Scope

OWNERLESS: Final = -1  # a connection that no process holds any more
_FIRST_PERSON: Final = 1000  # below are system accounts, which is where proxies run
_UNMAPPED: Final = 65534  # "nobody": a proxy's account on some systems, and anybody from outside a user namespace

_MAKE_A_KEY: Final = (
    "On the machine that runs hal0: hal0ctl key create NAME{scope}. "
    "Send it as: Authorization: Bearer KEY, or x-api-key: KEY."
)


class Caller(NamedTuple):
    """What is known of whoever sent a request, before its body is read.

    `operator`: it came through hal0's Unix socket. `peer` is the address of the other end, or, `proxied`, the one
    that a trusted proxy names. `hosts` is every Host header, `forwarded` the first forwarding header of a proxy that
    is not trusted. `peer_uid` is the account that holds the connection's other end: None where this machine does not
    tell, OWNERLESS where nobody does. `keyless_off` says why local programs need a key here, None where they do
    not; `open_lan`: private ranges need none. `names` are hal0's own host names, `page_allowed` whether the
    configuration lets a page of this origin call this path. `unsafe`: the method may change something.
    """

    operator: bool = False
    peer: str | None = None
    hosts: tuple[str, ...] = ()
    origin: str | None = None
    forwarded: str | None = None
    proxied: bool = False
    peer_uid: int | None = None
    own_uid: int = 0
    keyless_off: str | None = None
    open_lan: bool = False
    names: frozenset[str] = frozenset()
    page_allowed: bool = False
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class ByKey:
    """A valid key came along."""

    principal: Principal


@dataclass(frozen=True, slots=True)
class BySession:
    """A valid cookie came along. `csrf`: and the word that only hal0's own pages know."""

    principal: Principal
    csrf: bool


@dataclass(frozen=True, slots=True)
class BadKey:
    """What came along has the form of a key and is none, or none any more."""


Proof = ByKey | BySession | BadKey | None


def decide(access: Access, caller: Caller, proof: Proof = None) -> Principal | Hal0Error:
    """Whom to take the caller for; else the refusal."""
    if len(caller.hosts) > 1:
        return Hal0Error("request.invalid", "cannot tell who is asked for: there is more than one Host header")
    if caller.operator:
        return OPERATOR
    if access is Access.OPEN and not isinstance(proof, ByKey | BySession):
        return NOBODY
    refusal: Hal0Error | None
    match proof:
        case ByKey(principal):
            refusal = _foreign_page(caller) or _out_of_scope(access, principal)
        case BySession(principal, csrf):
            refusal = _foreign_page(caller) or _forged(caller, csrf=csrf)
        case BadKey():
            principal, refusal = NOBODY, _needs_key(access, "this key is not valid (any more)")
        case None:
            principal, refusal = LOCAL, _keyless(access, caller)
        case _:
            assert_never(proof)
    if refusal is None:
        return principal
    return NOBODY if access is Access.OPEN else refusal


def own_page(caller: Caller) -> bool:
    """Whether the request was sent by a page of hal0's own; programs that are no pages say no origin."""
    return caller.origin is not None and len(caller.hosts) == 1 and same_origin(caller.origin, caller.hosts[0])


def _foreign_page(caller: Caller) -> Hal0Error | None:
    if caller.origin is None or caller.page_allowed or own_page(caller):
        return None
    message = f"cannot let this through: pages of {caller.origin[:200]!r} may not call this path"
    return Hal0Error("access.origin_not_allowed", message)


def _out_of_scope(access: Access, principal: Principal) -> Hal0Error | None:
    if principal.may(access):
        return None
    has = ", ".join(sorted(principal.scopes))
    return Hal0Error("auth.forbidden", f"cannot let this through: it takes the scope {access.value}, the key has {has}")


def _forged(caller: Caller, *, csrf: bool) -> Hal0Error | None:
    """A browser sends its cookie whoever asks it to: what changes something has to come from a page of hal0's own."""
    if not caller.unsafe:
        return None
    if not own_page(caller):
        return Hal0Error("access.origin_not_allowed", "cannot let this through: it does not come from hal0's own page")
    if not csrf:
        hint = "GET /api/session tells the word for the header X-Hal0-CSRF."
        return Hal0Error("auth.forbidden", "cannot let this through: the header X-Hal0-CSRF is missing", hint=hint)
    return None


def _keyless(access: Access, caller: Caller) -> Hal0Error | None:
    if access is not Access.INFERENCE:
        return _needs_key(access, "over TCP it takes a key")
    why = _not_local(caller)
    if why is not None and caller.open_lan:
        why = _not_lan(caller)
    if why is not None:
        return _needs_key(access, why)
    host = caller.hosts[0] if caller.hosts else ""
    if not is_known_host(host, caller.names):
        message = f"cannot let this through without a key: {host[:200]!r} is no name of this hal0 (Host)"
        return Hal0Error("access.host_not_allowed", message)
    if is_loopback(caller.peer) and not is_local_host(host):
        return _needs_key(access, "its Host header does not name this machine's loopback")
    return None


def _needs_key(access: Access, why: str) -> Hal0Error:
    scope = "" if access in (Access.INFERENCE, Access.OWN) else f" --scope {Scope(access.value)}"
    hint = _MAKE_A_KEY.format(scope=scope)
    return Hal0Error("auth.required", f"cannot let this through without a key: {why}", hint=hint)


def _not_local(caller: Caller) -> str | None:
    """Why the caller is not a program of this machine that speaks for itself; None when it is."""
    if caller.keyless_off is not None:
        return caller.keyless_off
    if caller.proxied or not is_loopback(caller.peer):
        return "it comes from another machine"
    if (why := _smells(caller)) is not None:
        return why
    if caller.peer_uid is not None and not _speaks_for_itself(caller.peer_uid, caller.own_uid):
        return "it comes from a system account, as proxies do"
    return None


def _not_lan(caller: Caller) -> str | None:
    """Why the caller is not a program of the private network that speaks for itself; None when it is."""
    return _smells(caller) if is_private(caller.peer) else "it does not come from a private network (access.open_lan)"


def _smells(caller: Caller) -> str | None:
    if caller.forwarded is not None:
        return f"it came through a proxy ({caller.forwarded})"
    if caller.origin is not None and not own_page(caller):
        return "it comes from another web page (Origin)"
    return None


def _speaks_for_itself(uid: int, own_uid: int) -> bool:
    return uid in (0, own_uid) or (uid >= _FIRST_PERSON and uid != _UNMAPPED)
