"""FLM as its source has it, without an NPU: one model of a kind, one request at a time, failures with 200.

It loads whatever a request names, as FLM does: `swapped` says which models it was made to load.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from hal0.lib import jsonio

CHAT_ID: Final = "fastflowlm-chat-completion"
VECTOR: Final = [0.5, -0.25, 1.0]
# Beginnings of a message that FLM fails at, and what it says then.
TOO_LONG: Final = {"error": {"message": "Max length reached!", "type": "model_error", "code": 400}}
FAILURES: Final[dict[str, Any]] = {
    "fail with a text": {"error": "Failed to load qwen3:4b model!"},
    "fail with a code": {"error": {"message": "out of luck", "type": "server_error", "code": 500}},
    "fail without a model": None,
    "be too long": TOO_LONG,
    "be too long in old words": {"error": "Max length reached"},
}


@dataclass
class FakeFlm:
    """`embed` and `asr` as on its command line. `models` are those that requests named, in their order."""

    tag: str = "qwen3:4b"
    embed: bool = True
    asr: bool = True
    slow_s: float = 0.0
    models: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    forms: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.add_routes(
            [
                web.get("/v1/health", self._health),
                web.get("/api/ps", self._ps),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._completion),
                web.post("/v1/embeddings", self._embeddings),
                web.post("/v1/audio/transcriptions", self._transcription),
            ]
        )
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ps(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": self.tag, "model": self.tag, "size": 1}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        async with self._npu(body["model"]):
            said = str(body["messages"][-1]["content"])
            if said in FAILURES:
                return _send(FAILURES[said])
            if body.get("stream"):
                return await self._streamed(request, body["model"])
            message = {"role": "assistant", "content": f"you said {said}"}
            choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
            return _send(_completion("chat.completion", body["model"], choices))

    async def _streamed(self, request: web.Request, model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Connection": "keep-alive"})
        await response.prepare(request)
        for word in ("one ", "two"):
            choices = [{"index": 0, "delta": {"content": word}, "finish_reason": None}]
            await _event(response, jsonio.dumps(_completion("chat.completion.chunk", model, choices)))
        last = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        await _event(response, jsonio.dumps(_completion("chat.completion.chunk", model, last)))
        await _event(response, b"[DONE]")
        return response

    async def _completion(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._npu(body["model"]):
            choices = [{"text": f"after {body['prompt']}", "index": 0, "logprobs": None, "finish_reason": "stop"}]
            return _send(_completion("text_completion", body["model"], choices))

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.models.append(body["model"])
        if not self.embed:
            return _send(None)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not all(isinstance(text, str) for text in texts):
            return _send({"error": "[json.exception.type_error.302] type must be string, but is number"})
        data = [{"object": "embedding", "embedding": VECTOR, "index": i} for i in range(len(texts))]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return _send({"object": "list", "data": data, "model": body["model"], "usage": usage})

    async def _transcription(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.forms.append(form)
        self.models.append(str(form["model"]))
        if not self.asr:
            message = "ASR model is not available"
            return _send({"error": {"code": 503, "type": "service_unavailable", "message": message}})
        return _send({"model": str(form["model"]), "text": " And so my fellow Americans."})

    @asynccontextmanager
    async def _npu(self, model: str) -> AsyncIterator[None]:
        self.models.append(model)
        if model != self.tag:
            self.swapped.append(model)
            self.tag = model
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.slow_s)
            yield
        finally:
            self.at_once -= 1


@asynccontextmanager
async def running(flm: FakeFlm) -> AsyncIterator[int]:
    """Its port on loopback."""
    async with TestServer(flm.app()) as server:
        assert server.port is not None
        yield server.port


def listing(*tags: dict[str, Any]) -> str:
    """What `flm list -j` prints, with the note that comes before it."""
    body = jsonio.dumps({"models": [_entry(**tag) for tag in tags]})
    return f"Using custom model list at /opt/fastflowlm/share/flm/model_list.json\n{body.decode()}\n"


def _entry(name: str, folder: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "url": f"https://hub.example/FastFlowLM/{folder}/resolve/main",
        "size": 4_000_000_000,
        "files": ["config.json", "model.q4nx", "tokenizer.json"],
        "default_context_length": 32768,
        "vlm": False,
        "details": {"format": "NPU2", "family": "qwen3"},
        "footprint": 3.1,
        "installed": False,
        **more,
    }


def _send(body: Any) -> web.Response:
    """FLM knows two statuses."""
    error = body.get("error") if isinstance(body, dict) else None
    status = 400 if isinstance(error, dict) and error.get("code") == 400 else 200
    response = web.Response(body=jsonio.dumps(body), status=status, content_type="application/json")
    response.force_close()
    return response


async def _event(response: web.StreamResponse, data: bytes) -> None:
    await response.write(b"data: " + data + b"\n\n")


def _completion(kind: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "decoding_speed_tps": 40.0}
    return {"id": CHAT_ID, "object": kind, "created": 1, "model": model, "choices": choices, "usage": usage}
