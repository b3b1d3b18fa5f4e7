"""A card's test button: one small real request through hal0 itself, and what its answer is worth in words."""

import asyncio
import base64
import io
import math
import struct
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, FormData, UnixConnector

from hal0.capabilities.cards import Child
from hal0.lib import jsonio
from hal0.vocab import Capability
from hal0.wire.capabilities import TrialView

_RATE: Final = 16_000
_TONE_HZ: Final = 440
_LATE: Final = "hal0 did not answer in time"

_BODIES: Final[Mapping[Capability, Mapping[str, Any]]] = MappingProxyType(
    {
        Capability.CHAT: {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
        Capability.EMBED: {"input": "a river"},
        Capability.RERANK: {"query": "a river", "documents": ["water that flows", "a spoon"]},
        Capability.TTS: {"input": "Hello.", "response_format": "wav"},
        Capability.IMAGE: {"prompt": "a red circle", "size": "256x256", "n": 1, "response_format": "b64_json"},
    }
)


async def trial(child: Child, slot: str, socket: Path, *, timeout_s: float) -> TrialView:
    """Ask `slot` by its name over hal0's own socket; it is loaded if need be. Never raises."""
    headers = {"X-Hal0-Hold": f"{min(max(timeout_s - 1, 0), 600):.0f}"}
    clock, request_id = asyncio.get_running_loop().time, None
    started = clock()
    try:
        async with (
            ClientSession(
                "http://hal0", connector=UnixConnector(str(socket)), timeout=ClientTimeout(total=timeout_s)
            ) as session,
            session.post(child.path, headers=headers, **_body(child.capability, slot)) as response,
        ):
            request_id = response.headers.get("X-Request-ID")
            answer = await response.read()
            code, said = judge(child.capability, response.status, answer)
    except TimeoutError:
        code, said = "upstream.timeout", _LATE
    except (ClientError, OSError) as err:
        code, said = "upstream.unreachable", f"hal0 could not be asked: {err}"
    return TrialView(
        ok=code is None,
        message=said,
        code=code,
        slot=slot,
        took_ms=round((clock() - started) * 1000, 1),
        request_id=request_id,
    )


def judge(capability: Capability, status: int, answer: bytes) -> tuple[str | None, str]:
    """An error code (None: it works) and a sentence. Pure."""
    if status != 200:
        return _refused(status, answer)
    try:
        return None, _WORTH[capability](answer)
    except (jsonio.JSONDecodeError, KeyError, IndexError, TypeError, ValueError, EOFError, wave.Error):
        return "upstream.broken", "the answer is not what this path answers with"


def tone(seconds: float = 1.0) -> bytes:
    """A WAV of a plain tone: what every transcriber must take, whatever it hears in it."""
    samples = (int(8000 * math.sin(2 * math.pi * _TONE_HZ * n / _RATE)) for n in range(int(_RATE * seconds)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()


def _body(capability: Capability, slot: str) -> dict[str, Any]:
    if capability is not Capability.STT:
        return {"json": {"model": slot, **_BODIES[capability]}}
    form = FormData()
    form.add_field("model", slot)
    form.add_field("file", tone(), filename="tone.wav", content_type="audio/wav")
    return {"data": form}


def _refused(status: int, answer: bytes) -> tuple[str, str]:
    try:
        error = jsonio.loads(answer)["error"]
        return str(error["code"]), str(error["message"])
    except (jsonio.JSONDecodeError, KeyError, TypeError):
        return "upstream.broken", f"hal0 answered {status}"


def _chat(answer: bytes) -> str:
    jsonio.loads(answer)["choices"][0]["message"]["content"]
    return "it answers"


def _embed(answer: bytes) -> str:
    return f"{len(jsonio.loads(answer)['data'][0]['embedding'])} numbers"


def _rerank(answer: bytes) -> str:
    scores = [float(row["relevance_score"]) for row in jsonio.loads(answer)["results"]]
    return f"{len(scores)} scores, the best {max(scores):.3f}"


def _stt(answer: bytes) -> str:
    text = str(jsonio.loads(answer)["text"]).strip()
    return f'a second of sound is "{text[:60]}"' if text else "a second of sound without words"


def _tts(answer: bytes) -> str:
    with wave.open(io.BytesIO(answer)) as sound:
        # Streamed WAVs say the largest number of frames there is: what came is what counts.
        frames = min(sound.getnframes(), len(answer) // (sound.getsampwidth() * sound.getnchannels()))
        return f"{frames / sound.getframerate():.1f} s of speech"


def _image(answer: bytes) -> str:
    picture = base64.b64decode(jsonio.loads(answer)["data"][0]["b64_json"], validate=True)
    if not picture:
        raise ValueError("an empty picture")
    return f"one picture, {len(picture) / 1000:.0f} kB"


_WORTH: Final[Mapping[Capability, Callable[[bytes], str]]] = MappingProxyType(
    {
        Capability.CHAT: _chat,
        Capability.EMBED: _embed,
        Capability.RERANK: _rerank,
        Capability.STT: _stt,
        Capability.TTS: _tts,
        Capability.IMAGE: _image,
    }
)
