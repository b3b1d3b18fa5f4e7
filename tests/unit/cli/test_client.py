"""The client against what a network can do: answers, errors, strangers, silence, and streams that break off."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hal0.client import ApiError, Client, Target, Unreachable
from tests.fakes.api_server import ApiServer, error

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(path: Path, raw: bytes) -> Iterator[Client]:
    """A server that reads one request, writes `raw` and closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(raw)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(Target(f"unix://{path}", "--url"), timeout_s=5)
        thread.join(timeout=5)


@pytest.fixture
def client(api: ApiServer, home: Path) -> Client:
    return Client(Target(f"unix://{home}/run/hal0.sock", "default", "sekrit"), timeout_s=5)


def test_answers_are_dicts_and_the_key_goes_along(client: Client, api: ApiServer) -> None:
    assert client.get("/api/slots/primary")["state"] == "ready"
    assert api.headers[-1]["Authorization"] == "Bearer sekrit"


def test_trace_masks_the_key(api: ApiServer, home: Path) -> None:
    lines: list[str] = []
    Client(Target(f"unix://{home}/run/hal0.sock", "default", "sekrit"), trace=lines.append).get("/api/status")
    assert "GET" in lines[0]
    assert "200" in lines[0]
    assert "sekrit" not in lines[0]


def test_error_envelope(client: Client, api: ApiServer) -> None:
    api.replies["GET", "/api/status"] = error(507, "slot.memory_budget", "cannot load", needed=5)
    with pytest.raises(ApiError) as caught:
        client.get("/api/status")
    e = caught.value
    assert (e.code, e.status, e.details, e.request_id) == ("slot.memory_budget", 507, {"needed": 5}, "req_01")


def test_error_instead_of_a_stream(client: Client) -> None:
    with pytest.raises(ApiError, match="cannot find"):
        client.stream("GET", "/api/nowhere")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "does not answer like hal0"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "does not answer like hal0"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", "does not answer like hal0"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no valid HTTP answer"),
        (b"", "no valid HTTP answer"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"a"', "broke off|does not answer"),
    ],
)
def test_strangers_and_broken_answers_are_unreachable(tmp_path: Path, raw: bytes, said: str) -> None:
    with answering(tmp_path / "s", raw) as client, pytest.raises(Unreachable, match=said):
        client.get("/api/health")


def test_a_stream_that_ends_is_complete(tmp_path: Path) -> None:
    frame = b': beat\n\nid: 7\nevent: x\ndata: {"a":\ndata: 1}\n\ndata: [DONE]\n\n'
    raw = CHUNKED + f"{len(frame):x}\r\n".encode() + frame + b"\r\n0\r\n\r\n"
    with answering(tmp_path / "s", raw) as client:
        events = [(e.event, e.id, e.data) for e in client.stream("GET", "/")]
    assert events == [("x", "7", {"a": 1}), ("message", None, "[DONE]")]


@pytest.mark.parametrize("tail", [b"", b"\r\n", b"\r\n20\r\ndata: ha"])
def test_a_stream_that_breaks_off_is_not_taken_for_complete(tmp_path: Path, tail: bytes) -> None:
    raw = CHUNKED + b"9\r\ndata: 1\n\n" + tail
    with answering(tmp_path / "s", raw) as client, pytest.raises(Unreachable, match="broke off"):
        list(client.stream("GET", "/"))


def test_silence_has_a_deadline(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        with pytest.raises(Unreachable, match="no answer in time"):
            Client(Target(f"unix://{tmp_path}/s", "default"), timeout_s=0.05).get("/api/health")


def test_nobody_there_names_address_origin_and_cure(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        Client(Target(f"unix://{tmp_path}/none.sock", "HAL0_URL")).get("/api/health")
    assert f"unix://{tmp_path}/none.sock (HAL0_URL)" in caught.value.message
    assert "hal0 serve" in str(caught.value.hint)


def test_a_stream_can_be_interrupted_from_another_thread(client: Client) -> None:
    stream = client.events()
    seen = threading.Event()
    ended: list[BaseException | None] = []

    def read(done: Callable[[BaseException | None], None]) -> None:
        try:
            for _ in stream:
                seen.set()
            done(None)
        except Unreachable as e:
            done(e)

    thread = threading.Thread(target=read, args=(ended.append,))
    thread.start()
    assert seen.wait(5)
    stream.interrupt()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert ended
