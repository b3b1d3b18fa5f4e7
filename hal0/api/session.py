"""Signing in: a link that works once, `/api/session`, and the page behind the link.

The link only shows a button: a chat program that looks at links before people do would use it up otherwise.
"""

import asyncio
import html
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from hal0.access.addresses import same_origin
from hal0.access.keys import SessionRecord, csrf_of
from hal0.access.principal import Principal
from hal0.api.access import SESSION_COOKIE, Whence, whence
from hal0.api.exchange import answer, body_as, small_body
from hal0.api.middleware import PRINCIPAL_KEY
from hal0.errors import Hal0Error
from hal0.services import SERVICES, Services
from hal0.vocab import Access, Scope
from hal0.wire.base import NothingView
from hal0.wire.keys import LinkView, SessionView, SignInRequest

_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 4  # hal0's own page sends one
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="robots" content="noindex">
  <title>Sign in to hal0</title>
  <link rel="icon" href="/assets/icon.svg">
  <link rel="stylesheet" href="/assets/style.css">
</head>
<body>
<main>
  <h1>hal0</h1>
  <form method="post" action="/api/session">
    <input type="hidden" name="link" value="{word}">
    <p><button>Sign in as the operator</button></p>
  </form>
</main>
</body>
</html>
"""


async def sign_in_page(request: web.Request) -> web.Response:
    """Its own referrer policy lets the browser say that the form comes from here (Origin), and tells no one else."""
    page = _PAGE.format(word=html.escape(request.match_info["word"]))
    headers = {"Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
    return web.Response(text=page, content_type="text/html", charset="utf-8", headers=headers)


async def make_link(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    word, until = request.app[SERVICES].access.sessions.link(request[PRINCIPAL_KEY])
    return answer(LinkView(path=f"/sign-in/{word}", expires_at=until), status=201)


async def show(request: web.Request) -> web.Response:
    principal = request[PRINCIPAL_KEY]
    cookie = request.cookies.get(request.app[SESSION_COOKIE])
    session = request.app[SERVICES].access.sessions.recognise(cookie) if principal.session_id and cookie else None
    return answer(
        SessionView(
            scopes=sorted(principal.scopes),
            key_id=principal.key_id,
            csrf=csrf_of(cookie) if session is not None and cookie else None,
            expires_at=session.expires_at if session is not None else None,
        )
    )


async def sign_in(request: web.Request) -> web.Response:
    """With JSON the session is answered; the form of hal0's own page goes on to the start page."""
    services = request.app[SERVICES]
    came = whence(request, services.config().access)
    _from_own_page(request, came)
    form = request.content_type == _FORM
    asked = await _form(request) if form else await body_as(request, SignInRequest)
    session, cookie = await _session(services, asked, came.peer)
    await asyncio.to_thread(services.access.sessions.forget_admin_key)
    if form:
        response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
    else:
        scopes = sorted(Scope)
        response = answer(
            SessionView(scopes=scopes, key_id=None, csrf=csrf_of(cookie), expires_at=session.expires_at), status=201
        )
    secure = request.headers.get("Origin", "").startswith("https://")
    response.set_cookie(request.app[SESSION_COOKIE], cookie, path="/", httponly=True, samesite="Strict", secure=secure)
    return response


async def sign_out(request: web.Request) -> web.Response:
    session_id = request[PRINCIPAL_KEY].session_id
    if session_id is None:
        raise Hal0Error("request.invalid", "cannot sign out: this call has no session", hint="Nothing to do.")
    response = answer(NothingView())
    response.del_cookie(request.app[SESSION_COOKIE], path="/")
    await request.app[SERVICES].access.sessions.sign_out(session_id)
    return response


async def _session(services: Services, asked: SignInRequest, peer: str | None) -> tuple[SessionRecord, str]:
    """Raises auth.required, auth.forbidden, auth.rate_limited."""
    sessions = services.access.sessions
    try:
        if asked.key is None:
            return await sessions.sign_in(asked.link or "")
        principal = _admin(services, asked.key)
        return await sessions.open(principal.key_id, principal.until)
    except Hal0Error as refusal:
        if refusal.code != "auth.required":
            raise
        wait_s = services.access.tries.failed(peer, services.clock.now())
        if not wait_s:
            raise
        message = "cannot sign in: too many tries from this address failed"
        raise Hal0Error("auth.rate_limited", message, retry_after_s=wait_s) from refusal


def _admin(services: Services, text: str) -> Principal:
    record = services.access.keyring.recognise(text.strip())
    if record is None:
        raise Hal0Error("auth.required", "cannot sign in: this key is not valid (any more)", hint="hal0ctl open")
    principal = record.principal(text.strip())
    if not principal.may(Access.ADMIN):
        raise Hal0Error("auth.forbidden", "cannot sign in: it takes a key with the scope admin")
    return principal


def _from_own_page(request: web.Request, asked: Whence) -> None:
    """Another page must not sign its visitors in. Programs that are no pages send no Origin."""
    origin = request.headers.get("Origin")
    if origin is not None and not any(same_origin(origin, host) for host in asked.hosts):
        raise Hal0Error("access.origin_not_allowed", "cannot sign in from another page than hal0's own")


async def _form(request: web.Request) -> SignInRequest:
    text = (await small_body(request)).decode("utf-8", "replace")
    try:
        fields = parse_qs(text, max_num_fields=_MOST_FIELDS)
    except ValueError:
        message = "cannot read the body: the form has too many fields"
        raise Hal0Error("request.invalid_form", message, hint="Sign in on hal0's own page: hal0ctl open") from None
    return SignInRequest(link=fields.get("link", [""])[0][:128])
