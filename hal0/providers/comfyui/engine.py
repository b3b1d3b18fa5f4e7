"""A ComfyUI server over HTTP: each call with a deadline, every failure one of hal0's errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout, FormData

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Endpoint
from hal0.providers.comfyui import faults
from hal0.providers.comfyui.weights import FOLDERS, Weights, listed
from hal0.providers.comfyui.workflows import SAVE, Graph

# While weights are read the server may not answer for some seconds.
_CALL_S: Final = 30.0
_CONNECT_S: Final = 5.0
_MAX_JSON_BYTES: Final = 8 << 20
# Of one finished picture: noise of 2048 x 2048 takes 13 MB as PNG.
_MAX_PICTURE_BYTES: Final = 32 << 20


class ComfyEngine:
    """One server; `session` is the caller's. Raises upstream.* where the server is at fault."""

    def __init__(self, session: ClientSession, endpoint: Endpoint) -> None:
        self._session = session
        self._url = endpoint.base_url

    async def weights(self, model: str) -> Weights:
        """What it lists of the slot's model. Raises upstream.broken when it does not."""
        for folder in FOLDERS:
            names = await self._json("GET", f"/models/{folder}")
            found = listed(names, model, folder) if isinstance(names, list) else None
            if found is not None:
                return found
        raise Hal0Error("upstream.broken", f"cannot render: ComfyUI does not list {model}")

    async def submit(self, graph: Graph, prompt_id: str, client_id: str) -> None:
        """Put a graph into the queue, under an id of the caller's. Raises what `faults` makes of a refusal."""
        body = jsonio.dumps({"prompt": graph, "prompt_id": prompt_id, "client_id": client_id})
        async with self._call("POST", "/prompt", data=body, headers={"Content-Type": "application/json"}) as response:
            answer = await _json_of(response)
            # With one valid output it takes that one, and says in the same breath what it leaves out.
            if response.status == 400 or (response.status == 200 and answer.get("node_errors")):
                raise faults.refused(answer)
            _whole(response)

    async def outcome(self, prompt_id: str) -> str | None:
        """The file name of the finished picture (as `view` takes it); None until then. Raises what it failed with."""
        history = await self._json("GET", f"/history/{prompt_id}")
        entry = history.get(prompt_id) if isinstance(history, dict) else None
        if entry is None:
            return None
        try:
            if entry["status"]["status_str"] != "success":
                raise faults.failed(entry["status"])
            image = entry["outputs"][SAVE]["images"][0]
            return f"{image['subfolder']}/{image['filename']}"
        except (KeyError, IndexError, TypeError):
            raise Hal0Error("upstream.broken", "cannot read what ComfyUI says of a finished render") from None

    async def queue(self) -> tuple[set[str], set[str]]:
        """The ids of what runs and of what waits."""
        queue = await self._json("GET", "/queue")
        try:
            running, pending = ({item[1] for item in queue[name]} for name in ("queue_running", "queue_pending"))
        except (KeyError, IndexError, TypeError):
            raise Hal0Error("upstream.broken", "cannot read ComfyUI's queue") from None
        return running, pending

    async def dequeue(self, prompt_id: str) -> None:
        await self._post("/queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def forget(self, prompt_id: str) -> None:
        """Its history keeps every prompt in memory."""
        await self._post("/history", {"delete": [prompt_id]})

    async def view(self, file: str, picture_format: str, compression: int) -> bytes:
        """A finished picture; what is no PNG is encoded anew, with `compression` as its quality 0-100."""
        subfolder, _, name = file.rpartition("/")
        query = {"filename": name, "subfolder": subfolder, "type": "output"}
        if picture_format != "png":
            query["preview"] = f"{picture_format};{max(compression, 1)}"
        async with self._call("GET", "/view", params=query) as response:
            _whole(response)
            return await _bounded(response, _MAX_PICTURE_BYTES)

    async def upload(self, name: str, data: bytes) -> str:
        """The name by which a graph may load it."""
        form = FormData()
        form.add_field("image", data, filename=name, content_type="application/octet-stream")
        form.add_field("overwrite", "true")
        async with self._call("POST", "/upload/image", data=form) as response:
            _whole(response)
            answer = await _json_of(response)
        said = answer.get("name")
        if not isinstance(said, str):
            raise Hal0Error("upstream.broken", "cannot read where ComfyUI keeps an upload")
        return said

    @asynccontextmanager
    async def _call(self, method: str, path: str, **options: Any) -> AsyncIterator[ClientResponse]:
        timeout = ClientTimeout(total=_CALL_S, sock_connect=_CONNECT_S)
        try:
            async with self._session.request(method, self._url + path, timeout=timeout, **options) as response:
                yield response
        except TimeoutError as error:  # aiohttp's own is one, too
            raise Hal0Error("upstream.timeout", f"cannot go on: ComfyUI is silent on {path}") from error
        except (ClientError, OSError) as error:
            how = "cannot be reached" if isinstance(error, ClientConnectorError) else "broke off"
            said = f"cannot go on: ComfyUI {how} on {path} ({type(error).__name__})"
            raise Hal0Error("upstream.unreachable", said) from error

    async def _json(self, method: str, path: str) -> Any:
        async with self._call(method, path) as response:
            _whole(response)
            return _parsed(await _bounded(response, _MAX_JSON_BYTES))

    async def _post(self, path: str, body: Any) -> None:
        headers = {"Content-Type": "application/json"}
        async with self._call("POST", path, data=jsonio.dumps(body), headers=headers) as response:
            _whole(response)


def _whole(response: ClientResponse) -> None:
    if response.status != 200:
        said = f"cannot go on: ComfyUI answers {response.status} on {response.url.path}"
        raise Hal0Error("upstream.broken", said, details={"status": response.status})


async def _json_of(response: ClientResponse) -> dict[str, Any]:
    """An object; empty for whatever else it is."""
    value = _parsed(await _bounded(response, _MAX_JSON_BYTES)) if response.content_type == "application/json" else {}
    return value if isinstance(value, dict) else {}


def _parsed(data: bytes) -> Any:
    try:
        return jsonio.loads(data)
    except jsonio.JSONDecodeError as error:
        raise Hal0Error("upstream.broken", f"cannot read what ComfyUI answers: {error}") from error


async def _bounded(response: ClientResponse, most: int) -> bytes:
    read = bytearray()
    async for piece in response.content.iter_any():
        read += piece
        if len(read) > most:
            raise Hal0Error("upstream.broken", f"cannot take more than {most} bytes from ComfyUI")
        await asyncio.sleep(0)
    return bytes(read)
