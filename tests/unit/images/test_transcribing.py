"""The transcription routes around an engine and a decoder of the tests' own: everything but FFmpeg and Moonshine."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse, FormData, web
from aiohttp.test_utils import TestClient, TestServer

from serving import app as serving
from serving.errors import Refusal
from transcribing import asked
from transcribing.cutting import RATE, Piece, Samples
from transcribing.routes import Transcriptions, language_of
from transcribing.speech import GoneError, NotSoundError
from transcribing.transcript import Segment

PATH = "/v1/audio/transcriptions"
Client = TestClient[web.Request, web.Application]


class Hearing:
    """Says how long each piece is; with `may_go_on` it works on one until told, or until nobody listens."""

    def __init__(self) -> None:
        self.may_go_on: threading.Event | None = None
        self.fails_at = 0
        self.heard_of = 0
        self.began = threading.Event()
        self.left = threading.Event()

    def load(self) -> None:
        return

    def heard(self, piece: Piece, gone: threading.Event) -> Segment:
        self.heard_of += 1
        if self.heard_of == self.fails_at:
            raise RuntimeError("the runtime's own words")
        self.began.set()
        while self.may_go_on is not None and not self.may_go_on.wait(0.005):
            if gone.is_set():
                self.left.set()
                raise GoneError
        return Segment(piece.start_s, piece.end_s, f"{len(piece.samples) / RATE:g}")


def decoded(path: Path) -> Iterator[Samples]:
    """A file with a number in it is as many seconds of sound; whatever stands behind the number is broken."""
    seconds, _, broken = path.read_text().partition(" ")
    if not seconds.replace(".", "").isdigit():
        raise NotSoundError("this is no sound")
    left = round(float(seconds) * RATE)
    while left > 0:
        yield np.ones(min(left, RATE), np.float32)
        left -= RATE
    if broken:
        raise NotSoundError("it ends in the middle")


@asynccontextmanager
async def serving_it(hearing: Hearing, alias: str = "moonshine-tiny") -> AsyncIterator[Client]:
    settings = serving.Options("127.0.0.1", 0, Path("/m"), alias, "")
    server = serving.Server(settings, Transcriptions(hearing, decoded, alias))
    await server.load()
    async with TestClient(TestServer(server.app())) as client:
        yield client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving_it(Hearing()) as made:
        yield made


def form(content: str | None = "2", *, file_first: bool = False, **fields: str) -> FormData:
    made = FormData()

    def add_file() -> None:
        if content is not None:
            made.add_field("file", content.encode(), filename="clip.wav", content_type="audio/wav")

    if file_first:
        add_file()
    for name, value in fields.items():
        made.add_field(name, value)
    if not file_first:
        add_file()
    made.add_field("nobody_knows", "x" * 100_000)
    return made


async def refused(answer: ClientResponse) -> tuple[int, str | None, str]:
    error = (await answer.json())["error"]
    return answer.status, error["param"], error["message"]


@pytest.mark.parametrize("file_first", [True, False])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("json", "application/json"),
        ("text", "text/plain"),
        ("srt", "application/x-subrip"),
        ("vtt", "text/vtt"),
        ("verbose_json", "application/json"),
    ],
)
async def test_every_format_whatever_the_order_of_the_parts(
    client: Client, name: str, kind: str, file_first: bool
) -> None:
    answer = await client.post(PATH, data=form("2.5", file_first=file_first, response_format=name, language="EN"))
    assert (answer.status, answer.content_type) == (200, kind)
    assert "2.5" in await answer.text()


async def test_a_long_clip_is_heard_in_pieces(client: Client) -> None:
    answer = await client.post(PATH, data=form("70", response_format="verbose_json"))
    told = await answer.json()
    assert (len(told["segments"]), told["duration"]) == (3, 70)
    assert told["text"] == " ".join(segment["text"] for segment in told["segments"])


async def events(answer: ClientResponse) -> list[dict[str, Any]]:
    assert answer.content_type == "text/event-stream"
    return [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line]


async def test_a_stream_tells_each_piece_and_the_whole(client: Client) -> None:
    told = await events(await client.post(PATH, data=form("70", stream="true")))
    assert [event["type"] for event in told] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert "".join(event["delta"] for event in told[:-1]) == told[-1]["text"]


async def test_a_stream_that_breaks_says_so(client: Client) -> None:
    *told, last = await events(await client.post(PATH, data=form("35 broken", stream="true")))
    assert told[0]["type"] == "transcript.text.delta"
    assert (last["error"]["code"], last["error"]["param"]) == ("audio.unsupported_format", "file")


async def test_a_stream_whose_engine_fails_says_so() -> None:
    hearing = Hearing()
    hearing.fails_at = 2
    async with serving_it(hearing) as client:
        *told, last = await events(await client.post(PATH, data=form("70", stream="true")))
    assert [event["type"] for event in told] == ["transcript.text.delta"]
    assert last["error"]["message"] == "the engine failed; its log says why"


@pytest.mark.parametrize("content", ["text", "1 broken", "35 broken"])
@pytest.mark.parametrize("stream", ["true", "false"])
async def test_what_cannot_be_decoded_is_415_with_the_reason(client: Client, content: str, stream: str) -> None:
    if (content, stream) == ("35 broken", "true"):
        return  # too late for a status; above
    status, param, message = await refused(await client.post(PATH, data=form(content, stream=stream)))
    assert (status, param) == (415, "file")
    assert message.startswith("the file cannot be decoded: ")


async def test_a_clip_that_is_too_short_is_refused_and_silence_is_not(client: Client) -> None:
    assert (await refused(await client.post(PATH, data=form("0.05"))))[:2] == (400, "file")
    assert (await client.post(PATH, data=form("0.1"))).status == 200


async def test_a_form_must_have_one_file(client: Client) -> None:
    assert (await refused(await client.post(PATH, data=form(None))))[:2] == (400, "file")
    assert (await refused(await client.post(PATH, json={"file": "x"})))[:2] == (400, "file")
    two = form("1")
    two.add_field("file", b"2", filename="b.wav")
    assert (await refused(await client.post(PATH, data=two)))[0] == 400


HEAD = b'Content-Disposition: form-data; name="file"; filename="a.wav"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b\r\n",
        b"--b--\r\n",
        b"--other\r\n%b\r\n\r\n2\r\n--other--\r\n" % HEAD,
        b"--b\r\n%b" % HEAD,
        b"--b\r\n%b\r\n\r\n2" % HEAD,
        b"--b\r\nno colon here\r\n\r\n2\r\n--b--\r\n",
        b"--b\r\n\0\xff: \xff\r\n\r\n2\r\n--b--\r\n",
        b"--b\r\nX: %b\r\n\r\n2\r\n--b--\r\n" % (b"x" * 100_000),
        b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\n2\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: \xff;;;=\r\n\r\n2\r\n--b--\r\n",
        b"--b\r\n%b\r\nContent-Transfer-Encoding: base64\r\n\r\n!?\r\n--b--\r\n" % HEAD,
        b"--b\r\n%b\r\nContent-Transfer-Encoding: nonsense\r\n\r\n2\r\n--b--\r\n" % HEAD,
        b"--b\r\n%b\r\nContent-Encoding: gzip\r\n\r\nno gzip\r\n--b--\r\n" % HEAD,
        b"--b\r\n%b\r\nContent-Encoding: nonsense\r\n\r\n2\r\n--b--\r\n" % HEAD,
        b"--b\r\n%b\r\nContent-Length: -7\r\n\r\n2\r\n--b--\r\n" % HEAD,
        b"--b\r\n%b\r\nContent-Length: 99\r\n\r\n2\r\n--b--\r\n" % HEAD,
        b"--b\r\nContent-Type: multipart/mixed\r\n\r\n--c\r\n\r\n2\r\n--c--\r\n--b--\r\n",
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n2\r\n--c--\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n%b\r\n--b--\r\n' % (b"nonsense" * 9),
    ],
)
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.parametrize("boundary", ["; boundary=b", "", f"; boundary={'b' * 200}"])
async def test_a_form_that_is_none_is_the_clients_fault(client: Client, body: bytes, boundary: str) -> None:
    """Oddities that do not touch the file may pass."""
    answer = await client.post(PATH, data=body, headers={"Content-Type": f"multipart/form-data{boundary}"})
    assert answer.status in (200, 400, 415), await answer.text()
    assert answer.status == 200 or (await refused(answer))[2]
    assert (await client.post(PATH, data=form())).status == 200


async def test_another_language_is_refused_with_the_one_there_is(client: Client) -> None:
    status, param, message = await refused(await client.post(PATH, data=form(language="de")))
    assert (status, param) == (400, "language")
    assert message.endswith("allowed: en")
    for own in ("en", "en-US", "English"):
        assert (await client.post(PATH, data=form(language=own))).status == 200


async def test_translations_are_what_an_english_model_hears_and_nothing_else() -> None:
    path = "/v1/audio/translations"
    async with serving_it(Hearing()) as english, serving_it(Hearing(), "moonshine-tiny-ja") as japanese:
        told = await (await english.post(path, data=form(response_format="verbose_json"))).json()
        assert (told["task"], told["language"]) == ("translate", "english")
        assert (await refused(await japanese.post(path, data=form())))[0] == 501
        assert (await (await japanese.post(PATH, data=form(response_format="verbose_json"))).json())["language"] == (
            "japanese"
        )


@pytest.mark.parametrize(
    ("alias", "language"), [("moonshine-tiny", "en"), ("base", "en"), ("tiny-uk", "uk"), ("moonshine-tiny-en", "en")]
)
def test_a_models_name_tells_its_language(alias: str, language: str) -> None:
    assert language_of(alias) == language


async def test_nobody_works_for_a_client_that_left() -> None:
    hearing = Hearing()
    hearing.may_go_on = threading.Event()
    engine = Transcriptions(hearing, decoded, "m")
    server = serving.Server(serving.Options("127.0.0.1", 0, Path("/m"), "m", ""), engine)
    await server.load()
    async with TestClient(TestServer(server.app())) as client:
        asking = asyncio.ensure_future(client.post(PATH, data=form("70")))
        assert await asyncio.to_thread(hearing.began.wait, 5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await asyncio.to_thread(hearing.left.wait, 5)
        hearing.may_go_on.set()
        assert (await client.post(PATH, data=form("1"))).status == 200
    assert hearing.heard_of == 2


async def test_uploads_are_bounded_alone_and_together(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "LARGEST_BYTES", 1000)
    assert (await refused(await client.post(PATH, data=form("2".ljust(1001)))))[0] == 413
    spool = asked.Spool(limit=10)
    spool.take(10)
    with pytest.raises(Refusal, match="busy"):
        spool.take(1)
    spool.give_back(10)
    spool.take(10)


async def test_an_upload_leaves_nothing_behind(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for content in ("1", "nothing", "0.01"):
        await client.post(PATH, data=form(content))
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []
