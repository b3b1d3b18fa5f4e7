"""The page at `/`: plain files from `web/plain`, without a script and without anything from elsewhere."""

import asyncio
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # may be kept, is asked about each time: a new hal0 shows its new page
}
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}
_INDEX: Final = "index.html"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    etag: str


def files_root() -> Path:
    """The page's files: inside the package when installed from a wheel, in `web/` of a checkout. Blocking."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_web"
    return packed if packed.is_dir() else package.parent / "web" / "plain"


async def show(request: web.Request) -> web.Response:
    return await _answer(request, _INDEX)


async def asset(request: web.Request) -> web.Response:
    return await _answer(request, request.match_info["file"])


async def _answer(request: web.Request, name: str) -> web.Response:
    file = (await asyncio.to_thread(_files)).get(name)
    if file is None:
        raise web.HTTPNotFound
    headers = {**HEADERS, "ETag": f'"{file.etag}"'}
    if any(etag.value in (file.etag, "*") for etag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    charset = None if file.content_type.startswith("image/") else "utf-8"
    return web.Response(body=file.content, content_type=file.content_type, charset=charset, headers=headers)


@cache
def _files() -> dict[str, _File]:
    """Read once: they change only with hal0 itself."""
    found = {}
    for path in files_root().iterdir():
        content = path.read_bytes()
        found[path.name] = _File(content, _TYPES[path.suffix], sha256(content).hexdigest()[:16])
    return found
