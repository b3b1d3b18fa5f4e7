"""Gathers what is known of a caller and lets the access rule decide, before a byte of the body is read."""

import asyncio
import hmac
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_network
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from aiohttp import web

from hal0.access.addresses import client_behind, forwarding_header, is_loopback, within
from hal0.access.guard import BadKey, ByKey, BySession, Caller, Proof, decide
from hal0.access.keys import csrf_of, id_of
from hal0.access.owners import Owners
from hal0.access.pages import page_allowed
from hal0.access.parts import AccessParts
from hal0.access.principal import Principal
from hal0.api.arrival import Visit
from hal0.config.access import AccessConfig
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.vocab import Access

SESSION_COOKIE: Final = web.AppKey("session_cookie", str)  # its name: two hal0s on one machine must not share one
CSRF_HEADER: Final = "X-Hal0-CSRF"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_COOKIES: Final = "/mcp"  # agents have keys; a browser's cookie is no agent's
_BEARER: Final = "bearer"
_ANSWER_S: Final = 0.5
# Long enough for a client to read what was sent; one that does not read is not waited for.
_FLUSH_S: Final = 2.0
_ENDED: Final = "cannot go on: the key, or the session, is not valid any more"
# Ends what is under way on a connection.
Cut = Callable[[asyncio.Transport, Hal0Error], bool]


class _Asked(NamedTuple):
    """All that may differ between two requests of one connection, as far as access goes."""

    access: Access
    unsafe: bool
    page_allowed: bool
    hosts: tuple[str, ...]
    origin: str | None
    forwarded: str | None
    forwarded_for: tuple[str, ...]
    forwarded_host: str | None
    authorization: str | None
    api_key: str | None
    cookie: str | None
    csrf: str | None
    version: int
    config: AccessConfig


class Whence(NamedTuple):
    """Where a request comes from: the address of the other end, or the one that a trusted proxy speaks for (`proxied`).

    `hosts` is every name that hal0 was asked for under.
    """

    peer: str | None
    hosts: tuple[str, ...]
    proxied: bool


def whence(visit: Visit, config: AccessConfig) -> Whence:
    """Its X-Forwarded-* count where it comes from a trusted proxy, and nowhere else."""
    headers, hosts = visit.headers, tuple(visit.headers.getall("Host", ()))
    trusted = _networks(config.trusted_proxies)
    if not within(visit.remote, trusted):
        return Whence(visit.remote, hosts, proxied=False)
    named = headers.get("X-Forwarded-Host")
    peer = client_behind(headers.getall("X-Forwarded-For", ()), trusted)
    return Whence(peer, (named,) if named and len(hosts) == 1 else hosts, proxied=True)


class Door:
    """The access check of one application; call it with a request and its route's class."""

    def __init__(
        self,
        config: Callable[[], AccessConfig],
        parts: AccessParts,
        clock: Clock,
        *,
        cookie: str,
        keyless_off: str | None,
        owners: Owners,
        cut: Cut,
    ) -> None:
        """`keyless_off` is why this machine's loopback proves nothing, None where it does; `cookie` the session's.

        `cut` ends what is under way on a connection with an error that its client is told; False: there is nothing.
        """
        self._config = config
        self._parts = parts
        self._clock = clock
        self._cookie = cookie
        self._keyless_off = keyless_off
        self._owners = owners
        self._cut = cut
        self._alarm: asyncio.Handle | None = None  # when the next of those who were let in is not any more
        self._alarm_at = 0.0  # uvloop's timers do not tell, when they are due at once
        self._own_uid = os.geteuid()
        name = socket.gethostname().lower()
        self._own_names = frozenset({name, f"{name}.local"})
        # What was let through last on a connection: asked again, the answer is the same, and costs far less.
        self._passed: WeakKeyDictionary[asyncio.Transport, tuple[_Asked, Principal]] = WeakKeyDictionary()
        parts.store.on_ended(self._end)
        parts.store.on_ending(self._end_at)

    async def __call__(self, visit: Visit, access: Access, /) -> Principal:
        """Raises auth.* and access.* errors, or request.invalid for what has no one meaning."""
        transport, asked = visit.transport, self._asked(visit, access)
        passed = self._passed.get(transport) if transport is not None else None
        if passed is not None and passed[0] == asked:
            principal = passed[1]
        else:
            principal = await self._look(visit, asked)
            if transport is not None:
                self._passed[transport] = (asked, principal)
        if access is not Access.OPEN:
            self.used(principal)
        return principal

    def stamp(self) -> object:
        return self._parts.store.version, self._config()

    def _asked(self, visit: Visit, access: Access) -> _Asked:
        headers, config = visit.headers, self._config()
        get = headers.get
        origin, path = get("Origin"), visit.path
        proxies = bool(config.trusted_proxies)
        return _Asked(
            access,
            visit.method not in _SAFE,
            page_allowed(origin, path, config.cors_origins),
            tuple(headers.getall("Host", ())),
            origin,
            forwarding_header(headers),
            tuple(headers.getall("X-Forwarded-For", ())) if proxies else (),
            get("X-Forwarded-Host") if proxies else None,
            get("Authorization"),
            get("X-Api-Key"),
            None if path.startswith(_NO_COOKIES) else get("Cookie"),
            get(CSRF_HEADER),
            self._parts.store.version,
            config,
        )

    async def _look(self, visit: Visit, asked: _Asked) -> Principal:
        caller = await self._caller(visit, asked)
        verdict = decide(asked.access, caller, None if caller.operator else self._proof(visit, asked))
        if isinstance(verdict, Principal):
            self._watch(self._ends_at(verdict))
            return verdict
        if verdict.code == "auth.required" and (asked.authorization or asked.api_key):
            wait_s = self._parts.tries.failed(caller.peer, self._clock.now())
            if wait_s:
                message = "cannot let this through: too many keys from this address were not valid"
                raise Hal0Error("auth.rate_limited", message, retry_after_s=wait_s)
        raise verdict

    def used(self, principal: Principal) -> None:
        if principal.until is not None and self._clock.now() >= principal.until:
            raise Hal0Error("auth.required", _ENDED)
        if principal.key_id is not None:
            self._parts.keyring.use(principal.key_id)
        elif principal.session_id is not None:
            self._parts.sessions.use(principal.session_id)

    async def _caller(self, visit: Visit, asked: _Asked) -> Caller:
        if _is_unix(visit):
            return Caller(operator=True, hosts=asked.hosts)
        config = asked.config
        peer, hosts, proxied = whence(visit, config)
        direct = asked.access is Access.INFERENCE and not proxied and is_loopback(peer)
        return Caller(
            peer=peer,
            hosts=hosts,
            origin=asked.origin,
            forwarded=None if proxied else asked.forwarded,
            proxied=proxied,
            peer_uid=await self._peer_uid(visit) if direct else None,
            own_uid=self._own_uid,
            keyless_off=self._off(config),
            open_lan=config.open_lan and self._keyless_off is None,
            names=self._own_names | {name.lower() for name in config.hosts},
            page_allowed=asked.page_allowed,
            unsafe=asked.unsafe,
        )

    def _proof(self, visit: Visit, asked: _Asked) -> Proof:
        """A text that has not the form of a key counts as none: most clients cannot do without some text there."""
        text = _key_in(asked.authorization, asked.api_key)
        if text is not None:
            key = self._parts.keyring.recognise(text)
            return BadKey() if key is None else ByKey(key.principal(text))
        cookie = visit.cookies.get(self._cookie) if asked.cookie else None
        session = self._parts.sessions.recognise(cookie) if cookie else None
        if cookie is None or session is None:
            return None
        return BySession(self._parts.sessions.principal(session), csrf=_same(csrf_of(cookie), asked.csrf))

    def _off(self, config: AccessConfig) -> str | None:
        if not config.trust_loopback:
            return "access.trust_loopback is false"
        if config.hosts:
            return "access.hosts is set, so hal0 stands behind a proxy"
        return self._keyless_off

    async def _peer_uid(self, visit: Visit) -> int | None:
        transport = visit.transport
        if transport is None:  # the client has left already
            return None
        peer, own = (transport.get_extra_info(end)[:2] for end in ("peername", "sockname"))
        return await self._owners.of_peer(transport, peer, own)

    def _end(self, proof_id: str) -> None:
        """What a key or a session has open ends: its connections close, and with them whatever they were for.

        Not at once: the answer to whoever revoked it may be on one of them.
        """
        loop = asyncio.get_running_loop()
        for transport, passed in list(self._passed.items()):
            if passed[1].holds(proof_id):
                loop.call_later(_ANSWER_S, self._close, transport, passed)

    def _end_at(self, proof_id: str, at: float) -> None:
        """Whoever is here by this key, or by a session of it, is so by a text that is good until then."""
        for transport, (asked, principal) in list(self._passed.items()):
            if principal.holds(proof_id):
                until = at if principal.until is None else min(principal.until, at)
                self._passed[transport] = asked, replace(principal, until=until)
                self._watch(until)

    def _close(self, transport: asyncio.Transport, passed: "tuple[_Asked, Principal]") -> None:
        """In the next turn: answers of this one go out at its end, and a connection that has closed takes none."""
        asyncio.get_running_loop().call_soon(self._close_now, transport, passed)

    def _close_now(self, transport: asyncio.Transport, passed: "tuple[_Asked, Principal]") -> None:
        """Unless the connection serves somebody else by now."""
        if self._passed.get(transport) is passed and not self._cut(transport, Hal0Error("auth.required", _ENDED)):
            transport.close()
            asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)

    def _watch(self, until: float | None) -> None:
        """Be there when that right ends. One timer for all: there are far more connections than ends."""
        if until is None:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + max(until - self._clock.now(), 0.0)
        if self._alarm is not None and self._alarm_at > due:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None:
            self._alarm, self._alarm_at = loop.call_at(due, self._run_out), due

    def _run_out(self) -> None:
        self._alarm, now = None, self._clock.now()
        for transport, passed in list(self._passed.items()):
            ends_at = self._ends_at(passed[1])
            if ends_at is not None and now >= ends_at:
                self._close(transport, passed)
            else:
                self._watch(ends_at)

    def _ends_at(self, principal: Principal) -> float | None:
        """When what it stands on ends by itself, as it is now: a session's end moves with its requests."""
        session = self._parts.store.sessions.get(principal.session_id or "")
        ends = (principal.until, None if session is None else session.expires_at)
        return min((end for end in ends if end is not None), default=None)


def _same(wanted: str, given: str | None) -> bool:
    return given is not None and hmac.compare_digest(wanted.encode(), given.encode("utf-8", "surrogateescape"))


def _key_in(authorization: str | None, api_key: str | None) -> str | None:
    """The first text with the form of a key, from either header: some clients fill both, one of them with nonsense."""
    scheme, _, bearer = (authorization or "").partition(" ")
    texts = (bearer if scheme.lower() == _BEARER else None, api_key)
    return next((text.strip() for text in texts if text and id_of(text.strip())), None)


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(ip_network(text) for text in texts)


def _is_unix(visit: Visit) -> bool:
    """By the listening side: only a Unix socket is bound to a path."""
    sock = visit.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX
