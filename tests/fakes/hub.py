"""A hub that can be made to misbehave: it cuts connections, lies about sizes, changes files, sends other bytes."""

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

REVISION = "0123456789abcdef0123456789abcdef01234567"
# Gets the request and what would be answered; returns an answer, or None to let the usual one go.
Fault = Callable[["Hub", web.Request], web.StreamResponse | None]


@dataclass
class Cut:
    """The next answers end after so many bytes of their body."""

    after: int


@dataclass
class Hub:
    """`files` are those of the one repository; `faults` are used up, one per request for a file."""

    files: dict[str, bytes]
    port: int = 0
    license: str = "apache-2.0"
    ranges: bool = True
    digests: bool = True
    etag: str = '"1"'
    pace: float = 0.0  # seconds between pieces
    held: bool = False  # answers stop half way until it is let go: what comes does not come to its end
    faults: deque[Fault | Cut] = field(default_factory=deque)
    asked: list[dict[str, str]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # published, where it is a lie
    listing: Fault | None = None
    found: list[dict[str, Any]] = field(default_factory=list)  # by any search

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"{self.endpoint}/acme/tiny/resolve/{REVISION}/{path}"

    async def about(self, request: web.Request) -> web.StreamResponse:
        if self.listing is not None and (answer := self.listing(self, request)) is not None:
            return answer
        return web.json_response({"sha": REVISION, "cardData": {"license": self.license}})

    async def search(self, request: web.Request) -> web.StreamResponse:
        if self.listing is not None and (answer := self.listing(self, request)) is not None:
            return answer
        return web.json_response(self.found)

    async def tree(self, request: web.Request) -> web.StreamResponse:
        return web.json_response([self._row(path, data) for path, data in self.files.items()])

    def _row(self, path: str, data: bytes) -> dict[str, Any]:
        size = self.sizes.get(path, len(data))
        row: dict[str, Any] = {"type": "file", "path": path, "size": size}
        if self.digests:
            row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": size}
        return row

    async def file(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.headers))
        data = self.files.get(request.match_info["path"])
        if data is None:
            raise web.HTTPNotFound
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and not isinstance(fault, Cut) and (answer := fault(self, request)) is not None:
            return answer
        return await self.send(request, data, fault.after if isinstance(fault, Cut) else None)

    async def send(self, request: web.Request, data: bytes, cut: int | None = None) -> web.StreamResponse:
        begin, end, status = 0, len(data), 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        same = request.headers.get("If-Range", self.etag) == self.etag
        if wanted is not None and self.ranges and same:
            begin, status = int(wanted[1]), 206
            end = min(int(wanted[2]) + 1, end) if wanted[2] else end
        response = web.StreamResponse(status=status)
        response.content_length = end - begin
        response.headers["ETag"] = self.etag
        if status == 206:
            response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        await response.prepare(request)
        half = (end - begin) // 2
        for at in range(begin, end, step := min(16384, max(half, 1))):
            while self.held and half and at >= begin + half:
                if request.transport is None:  # nobody waits for it any more
                    return response
                await asyncio.sleep(0.005)
            piece = data[at : min(at + step, end)]
            if cut is not None and at + len(piece) - begin > cut:
                await response.write(piece[: max(cut - (at - begin), 0)])
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(piece)
            if self.pace:
                await asyncio.sleep(self.pace)
        return response


@asynccontextmanager
async def hub(**files: bytes) -> AsyncIterator[Hub]:
    """`files` by name with `__` for a dot."""
    made = Hub({name.replace("__", "."): data for name, data in files.items()})
    app = web.Application()
    app.router.add_get("/api/models", made.search)
    app.router.add_get("/api/models/acme/tiny/revision/{revision}", made.about)
    app.router.add_get("/api/models/acme/tiny/tree/{revision}", made.tree)
    app.router.add_get("/acme/tiny/resolve/{revision}/{path:.+}", made.file)
    app.router.add_get("/plain/{path:.+}", made.file)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.port = runner.addresses[0][1]
        yield made
    finally:
        await runner.cleanup()


def status(code: int, **headers: str) -> Fault:
    """Answers with nothing but a status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _hub, _request: web.Response(status=code, headers=named)
