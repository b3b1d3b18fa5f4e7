"""The page at `/`: what hal0 is and which paths it serves, without a script and without anything from elsewhere."""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from typing import Final

from aiohttp import web

from hal0 import __version__
from hal0.api.route import Route, routes_of
from hal0.vocab import Access

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font:14px/1.5 ui-monospace,monospace}td{padding:.1rem 1.5rem .1rem 0;vertical-align:top}"
)
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'self'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_WHO: Final = {
    Access.OPEN: "anybody",
    Access.INFERENCE: "programs on this machine",
    Access.READ: "the operator",
    Access.ADMIN: "the operator",
}


async def show(request: web.Request) -> web.Response:
    return web.Response(text=page(routes_of(request.app)), content_type="text/html", headers=HEADERS)


def page(routes: Iterable[Route]) -> str:
    rows = "".join(
        f"<tr><td><code>{route.method} {escape(route.path)}</code><td>{escape(route.summary)}<td>{_WHO[route.access]}"
        for route in routes
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>hal0</title><style>{_STYLE}</style>"
        f"<h1>hal0 {escape(__version__)}</h1>"
        "<p>An OpenAI-compatible server. Point a client's base URL at <code>/v1</code> of this address; "
        "a slot's name, such as <code>primary</code>, is a model.</p>"
        "<p>The operator uses <code>hal0ctl</code> on the machine itself: it goes through hal0's own socket.</p>"
        f"<table><tr><th align=left>Path<th align=left>What<th align=left>Who{rows}</table></html>"
    )
