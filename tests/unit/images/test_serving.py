"""The server that hal0's own engines share: the secret, honest health, typed refusals, an end that drains."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer, unused_port

from serving import app as serving
from serving.errors import Refusal, not_allowed
from serving.worker import Worker

SECRET = "s3cret"
SHOWN = {"Authorization": f"Bearer {SECRET}"}


class Echo:
    """An engine that answers what it is told to; it loads when it may."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.may_load = threading.Event()
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()
        self._fault = fault

    def load(self) -> None:
        assert self.may_load.wait(5)
        if self._fault:
            raise self._fault

    def routes(self, worker: Worker) -> Iterable[web.RouteDef]:
        return [web.get("/v1/slow", self._slow), web.get("/v1/refuse", self._refuse), web.get("/v1/fail", self._fail)]

    async def _slow(self, _request: web.Request) -> web.Response:
        self.began.set()
        await self.may_answer.wait()
        return web.Response(text="whole")

    async def _refuse(self, _request: web.Request) -> web.Response:
        raise not_allowed("voice", "x" * 200, ["a", "b"])

    async def _fail(self, _request: web.Request) -> web.Response:
        raise RuntimeError("path of a file that no client may see")


def settings(port: int = 0, secret: str = SECRET) -> serving.Options:
    return serving.Options("127.0.0.1", port, Path("/models/m"), "m", secret)


@asynccontextmanager
async def loaded(engine: Echo) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    server = serving.Server(settings(), engine)
    async with TestClient(TestServer(server.app())) as client:
        engine.may_load.set()
        await server.load()
        yield client


async def test_it_says_that_it_is_loading_until_it_has_loaded() -> None:
    engine = Echo()
    server = serving.Server(settings(), engine)
    async with TestClient(TestServer(server.app())) as client:
        loading = asyncio.ensure_future(server.load())
        assert (await client.get("/health")).status == 503
        early = await client.get("/v1/models", headers=SHOWN)
        assert (early.status, early.headers["Retry-After"]) == (503, "1")
        engine.may_load.set()
        await loading
        assert await (await client.get("/health")).json() == {"status": "ok"}
        models = await (await client.get("/v1/models", headers=SHOWN)).json()
        assert [model["id"] for model in models["data"]] == ["m"]


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}])
async def test_only_health_is_told_without_the_secret(shown: dict[str, str]) -> None:
    async with loaded(Echo()) as client:
        assert (await client.get("/health", headers=shown)).status == 200
        for path in ("/v1/models", "/v1/refuse", "/nowhere"):
            answer = await client.get(path, headers=shown)
            assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")


async def test_a_secret_that_is_no_text_is_a_wrong_one() -> None:
    async with loaded(Echo()) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer \xff\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_a_refusal_names_the_member_and_what_is_allowed() -> None:
    async with loaded(Echo()) as client:
        answer = await client.get("/v1/refuse", headers=SHOWN)
        error = (await answer.json())["error"]
    assert (answer.status, error["param"], error["type"]) == (400, "voice", "invalid_request_error")
    assert error["message"] == f"voice {'x' * 100!r} is not known; allowed: a, b"


async def test_an_unknown_path_and_a_fault_have_the_same_shape_and_show_nothing() -> None:
    async with loaded(Echo()) as client:
        for path, status in (("/v1/none", 404), ("/v1/fail", 500)):
            answer = await client.get(path, headers=SHOWN)
            error = (await answer.json())["error"]
            assert answer.status == status
            assert "path of a file" not in error["message"]


async def test_one_more_than_the_line_holds_is_told_to_come_again() -> None:
    worker = Worker(1)
    with worker.admitted(), pytest.raises(Refusal) as refused, worker.admitted():
        pass
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
    with worker.admitted():
        assert await worker.run(threading.get_ident) != threading.get_ident()


async def test_work_whose_request_has_left_is_not_begun() -> None:
    worker, may_end = Worker(2), threading.Event()
    first = asyncio.ensure_future(worker.run(may_end.wait, 5))
    begun: list[int] = []
    second = asyncio.ensure_future(worker.run(begun.append, 1))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    may_end.set()
    await first
    await worker.run(begun.append, 2)
    assert begun == [2]


async def test_a_request_under_way_is_answered_before_it_ends() -> None:
    engine, port = Echo(), unused_port()
    engine.may_load.set()
    running = asyncio.ensure_future(serving._run(settings(port), engine))
    async with ClientSession(f"http://127.0.0.1:{port}", headers=SHOWN) as session:
        await healthy(session)
        answer = asyncio.ensure_future(session.get("/v1/slow"))
        await engine.began.wait()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert not running.done()
        engine.may_answer.set()
        assert await (await answer).text() == "whole"
    assert await asyncio.wait_for(running, 5) == serving.OK


async def healthy(session: ClientSession) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await session.get("/health")).status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (serving.UnusableError("cannot load the model: no voices"), serving.UNUSABLE),
        (MemoryError(), serving.UNEXPECTED),
    ],
)
async def test_a_load_that_fails_ends_the_server_and_says_why(
    caplog: pytest.LogCaptureFixture, fault: Exception, status: int
) -> None:
    engine = Echo(fault)
    engine.may_load.set()
    assert await asyncio.wait_for(serving._run(settings(unused_port()), engine), 5) == status
    assert "the model" in caplog.text


def test_the_secret_is_read_from_its_file_and_shown_nowhere(tmp_path: Path) -> None:
    key = tmp_path / "secret"
    key.write_text(f"{SECRET}\n")
    line = ["--model", "/models/m", "--alias", "m", "--api-key-file", str(key)]
    read = serving.options(line, "x")
    assert read.secret == SECRET
    assert SECRET not in repr(read)
    key.write_text("\n")
    with pytest.raises(SystemExit) as ended:  # never open because its key was lost
        serving.options(line, "x")
    assert ended.value.code == 2
