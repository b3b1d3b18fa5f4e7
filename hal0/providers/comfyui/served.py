"""Answers an images request: reads it, has its pictures rendered one after the other, and writes OpenAI's answer."""

import asyncio
import base64
import secrets
import uuid
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final, NamedTuple

from aiohttp import ClientSession, DummyCookieJar

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Endpoint, Exchange, Trial
from hal0.providers.comfyui.asked import MAX_SEED, Upload, Wish, members_of, wish_of
from hal0.providers.comfyui.engine import ComfyEngine
from hal0.providers.comfyui.render import rendered
from hal0.providers.comfyui.shots import shots_of
from hal0.providers.comfyui.watch import Preview, Step, watched
from hal0.providers.comfyui.workflows import RECIPES, Shot, Source, graph_of

# A picture and its mask, as large as anybody edits; they are held in memory, twice.
MAX_BODY_BYTES: Final = 64 << 20
_JSON: Final = {"Content-Type": "application/json"}
_EVENTS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
# No tokens are read or written here; the clients' types want the figures all the same.
_NO_TOKENS: Final = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


class Made(NamedTuple):
    shot: Shot
    picture: bytes


async def serve(exchange: Exchange, endpoint: Endpoint, *, model: str, stream: bool) -> None:
    """Raises Hal0Error for what is wrong with the request, the engine or the time that it was silent."""
    wish = await _wish(exchange)
    try:
        async with (
            asyncio.timeout(exchange.deadline_s) as limit,
            ClientSession(cookie_jar=DummyCookieJar()) as session,
        ):
            work = _Work(exchange, endpoint, session, wish, limit)
            await (work.stream(model) if stream else work.answer(model))
    except TimeoutError:
        said = f"cannot go on: nothing has come of the picture for {exchange.deadline_s:g} s"
        raise Hal0Error("slot.deadline", said, hint="Ask for less, or raise the slot's first_byte_timeout_s.") from None


async def verified(endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
    """Render the least there is, which reads the weights: what was wrong with it, None when nothing was."""
    engine = ComfyEngine(session, endpoint)
    wish = Wish(prompt="a", size=(64, 64), steps=1)
    try:
        weights = await engine.weights(trial.model)
        for shot in shots_of(wish, RECIPES[weights.kind], _prefix(), _roll, None):
            file = await rendered(engine, graph_of(weights, shot), uuid.uuid4().hex)
            await engine.view(file, "png", 100)
    except Hal0Error as error:
        return error.message
    return None


class _Work:
    """One request on its way through the engine; every step and every picture gives it its time anew."""

    def __init__(
        self, exchange: Exchange, endpoint: Endpoint, session: ClientSession, wish: Wish, limit: asyncio.Timeout
    ) -> None:
        self._limit = limit
        self._exchange = exchange
        self._endpoint = endpoint
        self._session = session
        self._engine = ComfyEngine(session, endpoint)
        self._wish = wish
        self._client_id = uuid.uuid4().hex

    async def answer(self, model: str) -> None:
        async with self._watched(None), aclosing(self._made(model)) as making:
            made = [one async for one in making]
        data = [await self._item(one) for one in made]
        body = {"created": int(self._exchange.at), "data": data, **self._described(made[0].shot)}
        await self._exchange.send(200, _JSON, await asyncio.to_thread(jsonio.dumps, body))

    async def stream(self, model: str) -> None:
        events = _Events(self._exchange, self._wish)
        async with self._watched(events), aclosing(self._made(model, events)) as making:
            async for one in making:
                item = await self._item(one)
                await events.completed({**item, **self._described(one.shot), "usage": _NO_TOKENS})

    def _watched(self, events: "_Events | None") -> AbstractAsyncContextManager[None]:
        async def tell(said: Step | Preview) -> None:
            self._goes_on()
            if events is not None:
                await events.tell(said)

        return watched(self._session, self._endpoint, self._client_id, tell)

    def _goes_on(self) -> None:
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._exchange.deadline_s)

    async def _made(self, model: str, events: "_Events | None" = None) -> AsyncGenerator[Made, None]:
        """The pictures, each as soon as it is there."""
        wish, prefix = self._wish, _prefix()
        weights = await self._engine.weights(model)
        source = await self._source(wish.upload, prefix) if wish.upload else None
        for number, shot in enumerate(shots_of(wish, RECIPES[weights.kind], prefix, _roll, source)):
            if number and wish.upload:
                await self._source(wish.upload, prefix)  # uploads end in minutes, and so many pictures may take longer
            if events is not None:
                events.begin(self._described(shot))
            file = await rendered(self._engine, graph_of(weights, shot), self._client_id)
            self._goes_on()
            yield Made(shot, await self._engine.view(file, wish.format, wish.compression))

    async def _source(self, upload: Upload, prefix: str) -> Source:
        name = prefix.rpartition("/")[2]
        image = await self._engine.upload(f"{name}-image", upload.image)
        mask = await self._engine.upload(f"{name}-mask", upload.mask) if upload.mask else None
        return Source(image, upload.strength, mask)

    async def _item(self, made: Made) -> dict[str, Any]:
        """`seed` is hal0's own: with it the same picture can be had again."""
        if self._wish.as_url:
            address = await self._exchange.keep(made.picture, f"image/{self._wish.format}")
            return {"url": address, "seed": made.shot.seed}
        encoded = await asyncio.to_thread(base64.b64encode, made.picture)
        return {"b64_json": encoded.decode("ascii"), "seed": made.shot.seed}

    def _described(self, shot: Shot) -> dict[str, str]:
        return {
            "size": f"{shot.width}x{shot.height}",
            "quality": ("low", "medium", "high")[self._wish.quality],
            "output_format": self._wish.format,
            "background": "opaque",
        }


class _Events:
    """OpenAI's events for one picture after the other; steps are comments, which clients skip."""

    def __init__(self, exchange: Exchange, wish: Wish) -> None:
        self._exchange = exchange
        self._wish = wish
        self._kind = "image_generation" if exchange.path == "/images/generations" else "image_edit"
        self._begun = False
        self._open = False  # a picture is being made; what is still said of the one before is late
        self._described: dict[str, str] = {}
        self._progress = 0.0
        self._partial = 0

    def begin(self, described: dict[str, str]) -> None:
        """The next picture."""
        self._described, self._progress, self._partial, self._open = described, 0.0, 0, True

    async def tell(self, said: Step | Preview) -> None:
        if not self._open:
            return
        if isinstance(said, Step):
            self._progress = said.value / max(said.most, 1)
            await self._write(f": step {said.value} of {said.most}\n\n".encode())
        elif self._partial < self._due():
            encoded = base64.b64encode(said.data).decode("ascii")
            partial = {"b64_json": encoded, "partial_image_index": self._partial}
            self._partial += 1
            await self._event("partial_image", {**self._described, **partial, "output_format": said.format})

    async def completed(self, item: dict[str, Any]) -> None:
        self._open = False
        await self._event("completed", item)

    def _due(self) -> int:
        """So many partial pictures belong to the steps done: they are spread over the time it takes."""
        most = self._wish.partial_images
        return min(most, int(self._progress * (most + 1)))

    async def _event(self, what: str, value: dict[str, Any]) -> None:
        kind = f"{self._kind}.{what}"
        body = jsonio.dumps({"type": kind, "created_at": int(self._exchange.at), **value})
        await self._write(b"event: %b\ndata: %b\n\n" % (kind.encode(), body))

    async def _write(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            await self._exchange.start(200, _EVENTS)
        await self._exchange.write(data)


async def _wish(exchange: Exchange) -> Wish:
    if exchange.size > MAX_BODY_BYTES:
        said = f"cannot take {exchange.size} bytes for one picture: {MAX_BODY_BYTES} are the most"
        raise Hal0Error("request.too_large", said, details={"limit_bytes": MAX_BODY_BYTES})
    parts = await exchange.read_form()
    members = members_of(parts) if parts is not None else await _object(exchange)
    return await asyncio.to_thread(wish_of, exchange.path, members)


async def _object(exchange: Exchange) -> dict[str, Any]:
    """It is known to be one: routing has read it."""
    value: dict[str, Any] = await asyncio.to_thread(jsonio.loads, await exchange.read_body())
    return value


def _prefix() -> str:
    """Of the files of one request; nobody else's are called so."""
    return f"hal0/{uuid.uuid4().hex}"


def _roll() -> int:
    return secrets.randbelow(MAX_SEED + 1)
