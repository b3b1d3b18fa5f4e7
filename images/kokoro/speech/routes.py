"""`/v1/audio/speech` and `/v1/audio/voices`: a text is spoken piece by piece, and sent as it is spoken."""

import base64
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from aiohttp import web

from serving.errors import Refusal
from serving.worker import Worker
from speech import asked
from speech.asked import Asked
from speech.backend import RATE, Backend, Speaker
from speech.formats import Encoder, with_true_length
from speech.sentences import Piece, pieces

log = logging.getLogger("speech")


@dataclass(slots=True)
class Usage:
    """In the model's own tokens; see `Spoken`."""

    input_tokens: int = 0
    output_tokens: int = 0

    def document(self) -> dict[str, int]:
        total = self.input_tokens + self.output_tokens
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens, "total_tokens": total}


@dataclass(slots=True)
class Speech:
    """One request on its way: chunks of encoded sound, and what they took."""

    worker: Worker
    speaker: Speaker
    encoder: Encoder
    speed: float
    usage: Usage = field(default_factory=Usage)

    async def chunks(self, text: list[Piece]) -> AsyncGenerator[bytes, None]:
        """A piece is begun when the one before it was taken: who reads slowly, or leaves, makes no work in vain."""
        for piece in text:
            if chunk := await self.worker.run(self._say, piece):
                yield chunk
        if self.usage.output_tokens and (rest := await self.worker.run(self.encoder.finish)):
            yield rest

    def _say(self, piece: Piece) -> bytes:
        spoken = self.speaker.say(piece.text, self.speed)
        if spoken is None:
            return b""
        self.usage.input_tokens += spoken.input_tokens
        self.usage.output_tokens += spoken.output_tokens
        pause = np.zeros(round(piece.pause_s * RATE), dtype=np.float32)
        return self.encoder.feed(np.concatenate([spoken.samples, pause]))


class SpeechEngine:
    """The engine that serving.app serves."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def load(self) -> None:
        self._backend.load()

    def routes(self, worker: Worker) -> Iterable[web.RouteDef]:
        async def speak(request: web.Request) -> web.StreamResponse:
            return await self._speak(request, worker)

        return [web.post("/v1/audio/speech", speak), web.get("/v1/audio/voices", self._voices)]

    async def _voices(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"voices": [{"id": id_, "name": name} for id_, name in self._backend.voices().items()]}
        )

    async def _speak(self, request: web.Request, worker: Worker) -> web.StreamResponse:
        with worker.admitted():  # before its body is read: that may be large
            wanted = asked.read(await _json(request), self._backend.speeds)
            speaker = await worker.run(self._backend.speaker, wanted.voice, wanted.reference, wanted.text)
            text = pieces(wanted.text, speaker.longest)
            speech = Speech(worker, speaker, wanted.format.encoder(), wanted.speed)
            async with aclosing(speech.chunks(text)) as chunks:
                if wanted.whole or (len(text) == 1 and not wanted.events):
                    return await _whole(wanted, chunks)
                return await _streamed(request, wanted, speech, chunks)


async def _json(request: web.Request) -> object:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as fault:  # not JSON, or not even text; or a list in a list in a list
        raise Refusal(400, "the body is no JSON") from fault


def _nothing() -> Refusal:
    return Refusal(400, "input has nothing that can be spoken in the voice's language", param="input")


async def _whole(wanted: Asked, chunks: AsyncIterator[bytes]) -> web.Response:
    sound = b"".join([chunk async for chunk in chunks])
    if not sound:
        raise _nothing()
    body = with_true_length(wanted.format, sound)
    return web.Response(body=body, content_type=wanted.format.content_type)


async def _streamed(
    request: web.Request, wanted: Asked, speech: Speech, chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Nothing is sent, not even a head, before there is sound: until then a failure has a status of its own."""
    first = await anext(chunks, None)
    if first is None:
        raise _nothing()
    kind = "text/event-stream" if wanted.events else wanted.format.content_type
    response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-cache"})
    await response.prepare(request)
    try:
        await response.write(_frame(wanted, first))
        async for chunk in chunks:
            await response.write(_frame(wanted, chunk))
        if wanted.events:
            await response.write(event("speech.audio.done", usage=speech.usage.document()))
    except Exception as fault:
        if not isinstance(fault, OSError):  # a client that has left
            log.exception("speech failed after it had begun")
        if wanted.events and not isinstance(fault, OSError):
            await response.write(event("error", **Refusal(500, "the engine failed; its log says why").body()))
        if request.transport:  # cut short: a complete end would look like a complete speech
            request.transport.close()
        return response
    await response.write_eof()
    return response


def _frame(wanted: Asked, chunk: bytes) -> bytes:
    return event("speech.audio.delta", audio=base64.b64encode(chunk).decode()) if wanted.events else chunk


def event(kind: str, **members: object) -> bytes:
    """One frame of OpenAI's event stream."""
    return f"data: {json.dumps({'type': kind, **members})}\n\n".encode()
