"""`/v1/audio/transcriptions` and `/v1/audio/translations`, whole or event by event."""

import asyncio
import contextlib
import json
import logging
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web

from serving.errors import Refusal, not_allowed
from serving.worker import Worker
from transcribing import asked
from transcribing.cutting import RATE, pieces
from transcribing.speech import Decoder, NotSoundError, Speech
from transcribing.transcript import FORMATS, Segment, Transcript

log = logging.getLogger("transcribing")

_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 4 * 3600  # a small file can hold weeks of silence
_LANGUAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "en": "english", "ar": "arabic", "es": "spanish", "ja": "japanese", "ko": "korean", "uk": "ukrainian",
        "vi": "vietnamese", "zh": "chinese",
    }
)  # fmt: skip


def language_of(alias: str) -> str:
    """The code of the one language that a model knows: Moonshine's models other than the English ones say it last."""
    match = re.search(r"[-_.]([a-z]{2})$", alias.lower())
    return match[1] if match and match[1] in _LANGUAGES else "en"


class Transcriptions:
    """A `serving.app.Engine`.

    A model knows one language and does not translate. `translations` asks for English: with an English model that is
    what it hears, with another one there is nothing to answer.
    """

    def __init__(self, speech: Speech, decoder: Decoder, alias: str) -> None:
        self._speech = speech
        self._decoder = decoder
        self._language = language_of(alias)
        self._spool = asked.Spool()

    def load(self) -> None:
        self._speech.load()

    def routes(self, worker: Worker) -> Iterable[web.RouteDef]:
        async def transcriptions(request: web.Request) -> web.StreamResponse:
            return await self._answer(request, worker, "transcribe")

        async def translations(request: web.Request) -> web.StreamResponse:
            if self._language != "en":
                said = f"this model writes down {_LANGUAGES[self._language]}, and translates nothing"
                raise Refusal(501, said, code="unsupported")
            return await self._answer(request, worker, "translate")

        return [
            web.post("/v1/audio/transcriptions", transcriptions),
            web.post("/v1/audio/translations", translations),
        ]

    async def _answer(self, request: web.Request, worker: Worker, task: str) -> web.StreamResponse:
        with worker.admitted():
            async with asked.uploading(self._spool) as upload:
                wanted = await asked.read(request, upload)
                self._check_language(wanted.language)
                async with contextlib.aclosing(self._segments(worker, upload.path)) as said:
                    # What cannot be decoded fails here, while a status can still tell it.
                    first = await anext(said, None)
                    if wanted.stream:
                        return await self._streamed(request, first, said)
                    segments = [] if first is None else [first, *[segment async for segment in said]]
        kind, written = FORMATS[wanted.response_format]
        text = written(Transcript(segments, _LANGUAGES[self._language], task))
        return web.Response(text=text, content_type=kind, charset="utf-8")

    def _check_language(self, language: str | None) -> None:
        own = self._language
        if language is not None and language.partition("-")[0] not in {own, _LANGUAGES[own]}:
            raise not_allowed("language", language, [own])

    async def _segments(self, worker: Worker, file: Path) -> AsyncGenerator[Segment, None]:
        """One after the other, each worked on when it is asked for. Raises Refusal."""
        gone = threading.Event()
        steps = self._steps(file, gone)
        told = 0
        try:
            while (segment := await worker.run(next, steps, None)) is not None:
                told += 1
                yield segment
        except (asyncio.CancelledError, GeneratorExit):
            log.info("left by its client after %d pieces", told)
            raise
        except NotSoundError as why:
            said = f"the file cannot be decoded: {why}"
            raise Refusal(415, said, param="file", code="audio.unsupported_format") from why
        finally:
            gone.set()

    def _steps(self, file: Path, gone: threading.Event) -> Iterator[Segment]:
        """In the worker's thread. Memory: one piece, whatever the file's length."""
        end_s = 0.0
        for piece in pieces(self._decoder(file)):
            end_s = piece.end_s
            if end_s > _LONGEST_S:
                raise Refusal(413, f"the sound is longer than {_LONGEST_S // 3600} hours", param="file")
            if piece.start == 0 and len(piece.samples) < _SHORTEST_S * RATE:
                raise Refusal(400, f"the sound is shorter than {_SHORTEST_S} s", param="file", code="audio_too_short")
            yield self._speech.heard(piece, gone)

    async def _streamed(
        self, request: web.Request, first: Segment | None, rest: AsyncIterator[Segment]
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        segments: list[Segment] = []

        async def tell(segment: Segment) -> None:
            delta = segment.text if not Transcript(segments, "").text else f" {segment.text}"
            segments.append(segment)
            if segment.text:
                await _send(response, {"type": "transcript.text.delta", "delta": delta})

        try:
            if first is not None:
                await tell(first)
                async for segment in rest:
                    await tell(segment)
            await _send(response, {"type": "transcript.text.done", "text": Transcript(segments, "").text})
        except Refusal as refusal:
            await _send(response, refusal.body())
        except OSError:
            raise  # the client has left
        except Exception:  # the answer has begun: only an event can tell it now
            log.exception("the engine failed in the middle of an answer")
            await _send(response, Refusal(500, "the engine failed; its log says why").body())
        return response


async def _send(response: web.StreamResponse, event: Mapping[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())
