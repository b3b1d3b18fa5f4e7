"""What a server far away may answer when it is asked for a picture."""

import pytest
from aiohttp import web

from hal0.dispatch import fetching
from hal0.dispatch.fetching import fetch, fetch_by
from hal0.errors import Hal0Error
from hal0.outbound.client import Outside
from tests.fakes.far import FAR, Answer, Names, as_if_public, far


async def fetched(answer: Answer) -> bytes:
    async with far(answer) as port, Outside(rule=as_if_public, resolver=Names({FAR: [["127.0.0.1"]]})) as outside:
        return await fetch_by(outside, f"http://{FAR}:{port}/picture")


def sized(size: int, *, told: bool) -> Answer:
    def answer(_request: web.Request) -> web.StreamResponse:
        response = web.Response(body=bytes(size))
        if not told:
            response.enable_chunked_encoding()
        return response

    return answer


@pytest.mark.parametrize("told", [True, False])
async def test_a_file_is_bounded_whatever_its_server_says(monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 100_000)
    assert await fetched(sized(100_000, told=told)) == bytes(100_000)
    with pytest.raises(Hal0Error, match="larger than") as caught:
        await fetched(sized(100_001, told=told))
    assert caught.value.code == "request.remote_media"


@pytest.mark.parametrize("status", [404, 500, 204])
async def test_only_an_answer_is_one(status: int) -> None:
    with pytest.raises(Hal0Error, match=f"answered {status}"):
        await fetched(lambda _request: web.Response(status=status))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "http://[fd00::1]/", "file:///etc/passwd", "x", "http:///"])
async def test_what_is_not_public_is_not_called(address: str) -> None:
    with pytest.raises(Hal0Error, match="cannot fetch") as caught:
        await fetch(address)
    assert caught.value.code == "request.remote_media"
