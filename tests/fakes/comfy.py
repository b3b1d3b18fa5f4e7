"""A ComfyUI server without its models: the same paths, replies and order of events, and pictures of one colour.

Its words were recorded from the real server. It renders one prompt after the other, a step at a time, looks at an
interrupt only between steps, does not notice clients that leave, and forgets what is removed from its queue.
"""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from hal0.lib import jsonio
from hal0.providers.base import Endpoint

_LOADERS: Final = {"CheckpointLoaderSimple": "ckpt_name", "UNETLoader": "unet_name"}
_SAMPLERS: Final = ("KSampler", "SamplerCustom", "SamplerCustomAdvanced")
_PREVIEW: Final = b"\xff\xd8\xff\xd9"


@dataclass
class Job:
    """One prompt: `state` is pending, running, success, error or removed; `steps` are those done."""

    id: str
    graph: dict[str, Any]
    client: str
    state: str = "pending"
    steps: int = 0
    interrupted: bool = False


def png(width: int, height: int, colour: bytes) -> bytes:
    """A whole PNG of one colour (3 bytes)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + colour * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class FakeComfy:
    """`step_s` is what a step takes, `fails` an execution error, `refuses` a validation error for every prompt.

    `on_step` is called after each step of a job. `held`: calls of these paths get no answer.
    """

    def __init__(self, **folders: list[str]) -> None:
        self.folders = {"checkpoints": [], "diffusion_models": [], **folders}
        self.jobs: list[Job] = []
        self.uploads: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.step_s = 0.0
        self.fails: dict[str, Any] | None = None
        self.refuses: dict[str, Any] | None = None
        self.accepts_a_part = False
        self.says_goodbye = True  # to a websocket that is closed
        self.forgets = False  # finished prompts never get into the history
        self.on_step: Callable[[Job], None] = lambda _job: None
        self.held: set[str] = set()
        self._history: dict[str, Any] = {}
        self._files: dict[str, Job] = {}
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port, "")

    async def start(self) -> None:
        app = web.Application(middlewares=[self._count], client_max_size=100 << 20)
        app.router.add_get("/models/{folder}", self._models)
        app.router.add_post("/prompt", self._prompt)
        app.router.add_get("/history/{id}", self._get_history)
        app.router.add_post("/history", self._post_history)
        app.router.add_get("/queue", self._get_queue)
        app.router.add_post("/queue", self._post_queue)
        app.router.add_post("/interrupt", self._interrupt)
        app.router.add_get("/view", self._view)
        app.router.add_post("/upload/image", self._upload)
        app.router.add_get("/ws", self._ws)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """As when its process dies: connections break, nobody listens."""
        self._worker.cancel()
        self._stopped.set()
        if self._runner is not None:
            assert self._runner.server is not None
            for connection in list(self._runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    async def job(self, number: int = 1, state: str = "running") -> Job:
        """The number-th prompt, once it is in that state."""
        while len(self.jobs) < number or self.jobs[number - 1].state != state:  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.002)
        return self.jobs[number - 1]

    # The queue.

    async def _work(self) -> None:
        while True:
            job = next((job for job in self.jobs if job.state == "pending"), None)
            if job is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._render(job)

    async def _render(self, job: Job) -> None:
        job.state = "running"
        steps = _steps(job.graph)
        for number in range(steps):
            await asyncio.sleep(self.step_s)
            if job.interrupted:
                return self._end(job, "execution_interrupted", {"node_id": "sample"})
            job.steps = number + 1
            self.on_step(job)
            await self._tell(job, jsonio.dumps({"type": "progress", "data": {"value": number + 1, "max": steps}}))
            await self._tell(job, struct.pack(">II", 1, 1) + _PREVIEW)
        if self.fails is not None:
            return self._end(job, "execution_error", self.fails)
        return self._end(job, "execution_success", {})

    def _end(self, job: Job, last: str, said: dict[str, Any]) -> None:
        job.state = "success" if last == "execution_success" else "error"
        if self.forgets:
            return
        name = job.graph["save"]["inputs"]["filename_prefix"].rpartition("/")[2] + "_00001_.png"
        self._files[name] = job
        images = [{"filename": name, "subfolder": "hal0", "type": "output"}]
        messages = [["execution_start", {}], [last, {"prompt_id": job.id, **said}]]
        status = {"status_str": job.state, "completed": job.state == "success", "messages": messages}
        outputs = {"save": {"images": images}} if job.state == "success" else {}
        self._history[job.id] = {"prompt": [1, job.id, job.graph, {}, ["save"]], "outputs": outputs, "status": status}

    async def _tell(self, job: Job, message: bytes) -> None:
        socket = self._sockets.get(job.client)
        if socket is None or socket.closed:
            return
        await (socket.send_str(message.decode()) if message.startswith(b"{") else socket.send_bytes(message))

    # The paths.

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if request.path in self.held:
            await asyncio.Event().wait()
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _models(self, request: web.Request) -> web.Response:
        names = self.folders.get(request.match_info["folder"])
        return web.json_response(names) if names is not None else web.Response(status=404)

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        graph, job = body["prompt"], Job(body["prompt_id"], body["prompt"], body.get("client_id", ""))
        if "image" in graph and graph["image"]["inputs"]["image"] not in self.uploads:
            return web.json_response(refusal("image", "LoadImage", "image", "custom_validation_failed"), status=400)
        if (error := self._refusal(graph)) is not None and not self.accepts_a_part:
            return web.json_response(error, status=400)
        self.jobs.append(job)
        self._wake.set()
        return web.json_response(
            {"prompt_id": job.id, "number": 1, "node_errors": (error or {}).get("node_errors", {})}
        )

    def _refusal(self, graph: dict[str, Any]) -> dict[str, Any] | None:
        if self.refuses is not None:
            return self.refuses
        listed = [name for names in self.folders.values() for name in names]
        for node, what in graph.items():
            for link in what["inputs"].values():
                if isinstance(link, list) and link[0] not in graph:
                    return refusal(node, what["class_type"], str(link[0]), "bad_linked_input")
            name = what["inputs"].get(_LOADERS.get(what["class_type"], ""))
            if name is not None and name not in listed:
                return refusal(node, what["class_type"], _LOADERS[what["class_type"]], "value_not_in_list")
        return None

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        entry = self._history.get(prompt_id)
        return web.json_response({} if entry is None else {prompt_id: entry})

    async def _post_history(self, request: web.Request) -> web.Response:
        for prompt_id in (await request.json()).get("delete", ()):
            self._history.pop(prompt_id, None)
        return web.Response()

    async def _get_queue(self, _request: web.Request) -> web.Response:
        def items(state: str) -> list[Any]:
            return [[1, job.id, job.graph, {}, ["save"]] for job in self.jobs if job.state == state]

        return web.json_response({"queue_running": items("running"), "queue_pending": items("pending")})

    async def _post_queue(self, request: web.Request) -> web.Response:
        deleted = (await request.json())["delete"]
        for job in self.jobs:
            if job.id in deleted and job.state == "pending":
                job.state = "removed"
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        prompt_id = (await request.json())["prompt_id"]
        for job in self.jobs:
            if job.id == prompt_id and job.state == "running":
                job.interrupted = True
        return web.Response()

    async def _view(self, request: web.Request) -> web.Response:
        job = self._files.get(request.query["filename"])
        if job is None or request.query["subfolder"] != "hal0":
            return web.Response(status=404)
        encoded = request.query.get("preview")
        if encoded:
            return web.Response(body=_PREVIEW, content_type=f"image/{encoded.partition(';')[0]}")
        return web.Response(body=_picture(job.graph), content_type="image/png")

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["image"]
        assert isinstance(file, web.FileField)
        self.uploads[file.filename] = file.file.read()
        return web.json_response({"name": file.filename, "subfolder": "", "type": "input"})

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[request.query["clientId"]] = socket
        await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}})
        if not self.says_goodbye:
            await self._stopped.wait()
        async for _ in socket:
            pass
        return socket


def _steps(graph: dict[str, Any]) -> int:
    return next(int(node["inputs"]["steps"]) for node in graph.values() if "steps" in node["inputs"])


def _picture(graph: dict[str, Any]) -> bytes:
    """Its size is what was asked for, its colour follows from all that matters."""
    sized = next(node["inputs"] for node in graph.values() if "width" in node["inputs"])
    said = {node: what for node, what in graph.items() if node != "save"}
    return png(sized["width"], sized["height"], hashlib.sha256(jsonio.dumps(said)).digest()[:3])


def refusal(node: str, class_type: str, name: str, kind: str, message: str = "Value not in list") -> dict[str, Any]:
    """The body of a 400, as the real server words it."""
    error = {"type": kind, "message": message, "details": f"{name}: 'x' not in []", "extra_info": {"input_name": name}}
    nodes = {node: {"errors": [error], "dependent_outputs": ["save"], "class_type": class_type}}
    whole = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""}
    return {"error": {**whole, "extra_info": {}}, "node_errors": nodes}


@asynccontextmanager
async def running(**folders: list[str]) -> AsyncIterator[FakeComfy]:
    comfy = FakeComfy(**folders)
    await comfy.start()
    try:
        yield comfy
    finally:
        await comfy.stop()
