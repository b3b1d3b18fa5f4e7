"""Podman's image store: what is asked at every start, and whatever streams, by aiohttp; the rest by podman-py.

podman-py brings requests and urllib3 with it, a tenth of a second of imports: a hal0 that only starts slots never
pays them. It blocks, so it has a small pool of its own.
"""

import asyncio
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from hal0.engine.base import ImageInfo, ImageProgress, OnImageProgress
from hal0.engine.documents import image_info
from hal0.engine.errors import ImageMissing
from hal0.engine.progress import PullMeter, build_steps
from hal0.engine.translate import Subject, called, one_line, refusal, timed_out, unreachable
from hal0.engine.transport import API, DOCKER_API, Transport
from hal0.errors import Hal0Error
from hal0.lib.jsonio import JSONDecodeError, dumps, loads

if TYPE_CHECKING:
    from podman import PodmanClient

T = TypeVar("T")

_THREADS: Final = 4  # one-shot calls in flight; the pool must never grow with a stalled podman
_CALL_S: Final = 30.0  # removing a large image takes seconds on slow disks
_QUIET_PULL_S: Final = 120.0  # a pull without a word for this long has lost its registry
_QUIET_BUILD_S: Final = 1800.0  # one RUN line may compile for a long time in silence
_QUIET_IMPORT_S: Final = 900.0  # without another megabyte taken: podman unpacks as it reads, and flushes at the end
_CHUNK_BYTES: Final = 1024 * 1024


class ImageStore:
    """The image verbs of `Engine` for one podman socket."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="podman-py")
        self._client: PodmanClient | None = None
        self._making = threading.Lock()

    async def inspect(self, ref: str) -> ImageInfo | None:
        subject = Subject(f"inspect image {ref}", image=ref)
        try:
            return image_info(await self._transport.json(f"/images/{quote(ref)}/json", subject))
        except ImageMissing:
            return None

    async def list(self) -> list[ImageInfo]:
        documents = await self._transport.json("/images/json", Subject("list the images"))
        return [image_info(document) for document in documents or ()]

    async def remove(self, ref: str) -> None:
        def drop(client: "PodmanClient") -> None:
            from podman.errors import ImageNotFound

            try:
                client.images.remove(ref)
            except ImageNotFound:
                return

        await self._one_shot(Subject(f"remove image {called(ref)}", image=ref), drop)

    async def pull(self, ref: str, on_progress: OnImageProgress) -> ImageInfo:
        """Through the Docker-compatible endpoint: the one that tells bytes on 4.3 as well as on 5.x."""
        subject = Subject(f"pull {ref}", image=ref)
        meter = PullMeter(ref)
        name = {"fromImage": ref} if "@" in ref else dict(zip(("fromImage", "tag"), _split_tag(ref), strict=True))
        stream = self._transport.stream(
            "POST", f"{DOCKER_API}/images/create", subject, params=name, open_s=_QUIET_PULL_S
        )
        async with stream as reader:
            async for document in _documents(reader, subject, _QUIET_PULL_S):
                if (progress := meter.feed(document)) is not None:
                    on_progress(progress)
        return await self._made(ref, subject)

    async def load(self, tar: Path, tag: str, changes: tuple[str, ...], on_progress: OnImageProgress) -> ImageInfo:
        """Import a root file system; the fraction is of the bytes handed to podman."""
        subject = Subject(f"import {tag}", image=tag)
        total = (await asyncio.to_thread(tar.stat)).st_size
        params = [("reference", tag), *(("changes", change) for change in changes)]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_QUIET_IMPORT_S) as quiet:

                def tell(sent: int) -> None:
                    quiet.reschedule(loop.time() + _QUIET_IMPORT_S)
                    on_progress(ImageProgress(f"importing {tag}", sent / total if total else None))

                stream = self._transport.stream(
                    "POST", f"{API}/images/import", subject, params=params, data=_chunks(tar, tell), open_s=None
                )
                async with stream as reader:
                    await reader.read()
        except TimeoutError as error:
            raise timed_out(subject, _QUIET_IMPORT_S) from error
        return await self._made(tag, subject)

    async def build(
        self,
        context: Path,
        *,
        containerfile: str,
        target: str,
        tag: str,
        build_args: Mapping[str, str],
        on_progress: OnImageProgress,
    ) -> ImageInfo:
        subject = Subject(f"build {tag}", image=tag)
        params = {
            "t": tag,
            "dockerfile": containerfile,
            "target": target,
            "buildargs": dumps(dict(build_args)).decode(),
            "layers": "true",
            "rm": "true",
            "forcerm": "true",
        }
        with tempfile.TemporaryFile() as packed:
            await asyncio.to_thread(_pack, context, packed)
            data = _read_chunks(packed)
            stream = self._transport.stream(
                "POST", f"{API}/build", subject, params=params, data=data, open_s=_QUIET_BUILD_S
            )
            async with stream as reader:
                async for document in _documents(reader, subject, _QUIET_BUILD_S):
                    for progress in build_steps(document):
                        on_progress(progress)
        return await self._made(tag, subject)

    async def aclose(self) -> None:
        """Give up what still runs in the pool: each call has a deadline of its own."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def _made(self, ref: str, subject: Subject) -> ImageInfo:
        info = await self.inspect(ref)
        if info is None:
            raise Hal0Error("image.build_failed", f"cannot {subject.doing}: podman ended well but has no such image")
        return info

    async def _one_shot(self, subject: Subject, work: Callable[["PodmanClient"], T]) -> T:
        await self._transport.ping()  # quick, with the right refusal; podman-py leaks its socket when nobody answers
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._run, work, subject)
        try:
            async with asyncio.timeout(_CALL_S):
                return await future
        except TimeoutError as error:
            raise timed_out(subject, _CALL_S) from error

    def _run(self, work: Callable[["PodmanClient"], T], subject: Subject) -> T:
        """In a thread of the pool: podman-py blocks, and raises requests' errors beside its own."""
        from podman import PodmanClient
        from podman.errors import APIError, ImageNotFound, PodmanError
        from requests.exceptions import RequestException

        try:
            with self._making:
                if self._client is None:
                    self._client = PodmanClient(base_url=_url(self._transport.socket), timeout=_CALL_S)
            return work(self._client)
        except ImageNotFound as error:
            fault = refusal(404, dumps({"cause": "image not known", "message": str(error)}), subject)
        except APIError as error:
            if error.response is None:  # a lost connection comes as an APIError without a response
                fault = unreachable(self._transport.socket, subject, one_line(str(error)), None)
            else:
                fault = refusal(error.status_code or 500, error.response.content, subject)
        except (PodmanError, RequestException, OSError) as error:
            fault = unreachable(self._transport.socket, subject, one_line(str(error)), None)
        raise fault  # not from within: podman-py's error holds its connection open for as long as it lives


async def _documents(reader: Any, subject: Subject, quiet_s: float) -> AsyncIterator[dict[str, Any]]:
    """JSON lines of a long job; podman answers 200 first, so a failure is a line like any other."""
    while True:
        try:
            async with asyncio.timeout(quiet_s):
                line = await reader.readline()
        except TimeoutError as error:
            raise timed_out(subject, quiet_s) from error
        if not line:
            return
        try:
            document = loads(line)
        except JSONDecodeError as error:
            raise Hal0Error("engine.failed", f"cannot {subject.doing}: podman's answer broke off") from error
        if document.get("error"):
            raise Hal0Error("engine.failed", f"cannot {subject.doing}: {one_line(str(document['error']))}")
        yield document


def _url(socket: Path) -> str:
    return f"http+unix://{quote(str(socket), safe='')}"


def _split_tag(ref: str) -> tuple[str, str]:
    """Name and tag; a colon before a slash belongs to the registry's port."""
    name, colon, tag = ref.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (ref, "latest")


async def _chunks(path: Path, tell: Callable[[int], None]) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        sent = 0
        async for chunk in _read_chunks(file):
            yield chunk
            sent += len(chunk)
            tell(sent)
    finally:
        file.close()


async def _read_chunks(file: Any) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk


def _pack(context: Path, packed: Any) -> None:
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(context, arcname=".")
    packed.seek(0)
