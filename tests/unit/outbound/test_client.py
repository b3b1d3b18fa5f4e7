"""What is looked at is what is called: literal addresses, names, each hop of a redirect."""

import pytest
from aiohttp import web
from yarl import URL

from hal0.outbound import AddressRefused, Unreachable
from hal0.outbound.client import HeadersFor, Outside, _onward, no_headers
from tests.fakes.far import FAR, Answer, Names, as_if_public, far


def page(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"a picture", content_type="image/png")


def onward(location: str) -> Answer:
    def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/there":
            return web.Response(text=request.headers.get("Authorization", "no key"))
        return web.Response(status=302, headers={"Location": location.replace("PORT", str(request.url.port))})

    return answer


async def got(
    address: str, *, names: Names | None = None, answer: Answer = page, headers_for: HeadersFor = no_headers
) -> bytes:
    async with (
        far(answer) as port,
        Outside(rule=as_if_public, resolver=names or Names({FAR: [["127.0.0.1"]]})) as outside,
        outside.get(address.replace("PORT", str(port)), headers_for) as response,
    ):
        return await response.read()


async def test_bytes_come_from_a_name() -> None:
    assert await got(f"http://{FAR}:PORT/picture.png") == b"a picture"


@pytest.mark.parametrize(
    "address",
    [
        *("http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "http://[fe80::1%25lo]/"),
        *("http://2130706433/", "http://127.1/", "http://0/", "http://[::ffff:10.0.0.1]:80/"),
        *("file:///etc/passwd", "ftp://far.example/", "gopher://far.example/", "//far.example/", "", "http://", "x"),
        *("http://user:secret@far.example/", "http://[/", "data:image/png;base64,AAAA"),
    ],
)
async def test_an_address_that_must_not_be_called_is_not_even_resolved(address: str) -> None:
    names = Names({FAR: [["127.0.0.1"]]})
    with pytest.raises(AddressRefused) as refused:
        await got(address, names=names)
    assert not names.asked
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["fe80::1"]])
async def test_a_name_is_what_it_resolves_to(addresses: list[str]) -> None:
    with pytest.raises(AddressRefused, match=FAR):
        await got(f"http://{FAR}:PORT/", names=Names({FAR: [addresses]}))


async def test_a_name_is_resolved_once_for_a_connection_and_looked_at_again_for_the_next() -> None:
    names = Names({FAR: [["127.0.0.1"], ["169.254.169.254"]]})
    async with far(page) as port, Outside(rule=as_if_public, resolver=names) as outside:
        async with outside.get(f"http://{FAR}:{port}/") as response:
            assert await response.read() == b"a picture"
        assert names.asked == [FAR]
        with pytest.raises(AddressRefused):
            async with outside.get(f"http://{FAR}:{port}/"):
                pass


@pytest.mark.parametrize(
    "location",
    [
        *("http://10.0.0.1/", "http://inside.example:PORT/", "//169.254.169.254/", "file:///etc/passwd"),
        "http://u:p@far.example/",
    ],
)
async def test_a_redirect_is_looked_at_like_the_first_address(location: str) -> None:
    names = Names({FAR: [["127.0.0.1"]], "inside.example": [["192.168.1.1"]]})
    with pytest.raises(AddressRefused):
        await got(f"http://{FAR}:PORT/", names=names, answer=onward(location))


async def test_a_key_stays_with_its_host() -> None:
    def key_for(url: URL) -> dict[str, str]:
        return {"Authorization": "the key"} if url.host == FAR else {}

    names = Names({FAR: [["127.0.0.1"]], "cdn.example": [["127.0.0.1"]]})
    elsewhere = onward("http://cdn.example:PORT/there")
    assert await got(f"http://{FAR}:PORT/there", names=names, answer=elsewhere, headers_for=key_for) == b"the key"
    assert await got(f"http://{FAR}:PORT/", names=names, answer=elsewhere, headers_for=key_for) == b"no key"


def test_https_never_goes_on_without() -> None:
    with pytest.raises(AddressRefused, match="from https to http"):
        _onward(URL("https://far.example/"), "http://far.example/")
    assert _onward(URL("http://far.example/a"), "/b") == URL("http://far.example/b")


@pytest.mark.parametrize("location", [f"http://{FAR}:PORT/", "/", "http://[/"])
async def test_redirects_end(location: str) -> None:
    with pytest.raises(Unreachable, match="redirects"):
        await got(f"http://{FAR}:PORT/", answer=onward(location))


@pytest.mark.parametrize("address", ["http://nowhere.example/", f"http://{FAR}:1/"])
async def test_who_does_not_answer_is_unreachable(address: str) -> None:
    with pytest.raises(Unreachable):
        await got(address)
