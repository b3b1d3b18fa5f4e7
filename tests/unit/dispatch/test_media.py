"""Which requests name media by address: every spelling of it, and nothing that only looks like it."""

import pytest

from hal0.dispatch.media import naming_in, suspicious
from hal0.errors import Hal0Error
from hal0.lib import jsonio

FAR = "http://169.254.169.254/latest/meta-data"
HERE = "data:image/png;base64,AAAA"


def openai(url: object) -> object:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]}


def anthropic(source: object) -> object:
    inner = [{"type": "image", "source": source}]
    return {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": inner}]}]}


NAMED = [
    openai({"url": FAR}),
    openai({"url": "file:///etc/passwd"}),
    openai({"url": ""}),
    openai({"url": f" {HERE}"}),
    openai(FAR),
    {"input": [{"content": [{"type": "input_image", "image_url": FAR}]}]},
    {"input": [{"content": [{"type": "input_file", "file_url": FAR}]}]},
    {"messages": [{"content": [{"type": "audio_url", "audio_url": {"url": FAR}}]}]},
    {"messages": [{"content": [{"type": "video_url", "video_url": {"url": FAR}}]}]},
    anthropic({"type": "url", "url": FAR}),
    {"images": [{"image_url": FAR}]},
    *(
        {"messages": [{"content": [{"type": name, name: {member: address}}]}]}
        for name in ("input_audio", "input_video")
        for member in ("data", "url")
        for address in (FAR, "file:///etc/passwd", "httpsaaaaaaaaaaaaaaaaaaaa.example", " HTTP://x/")
    ),
]
NOT_NAMED = [
    openai({"url": HERE}),
    openai(HERE),
    openai(None),
    openai({"url": 1}),
    anthropic({"type": "base64", "data": "AAAA"}),
    {"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF" * 9}}]}]},
    {"messages": [{"content": f'{{"image_url": {{"url": "{FAR}"}}}}'}]},
    {"messages": [], "tools": [{"type": "mcp", "server_url": FAR}], "metadata": {"image_url": FAR}},
    {"messages": [{"content": [{"type": "text", "text": FAR}]}]},
]


@pytest.mark.parametrize("body", NAMED)
@pytest.mark.parametrize("write", [jsonio.dumps, jsonio.dumps_pretty])
def test_an_address_is_found_however_it_is_written(body: object, write: object) -> None:
    data = write(body)  # type: ignore[operator]
    assert suspicious(data)
    named = naming_in(data)
    assert named is not None
    assert named.request == body


@pytest.mark.parametrize("body", NOT_NAMED)
def test_what_only_looks_like_it_passes(body: object) -> None:
    assert naming_in(jsonio.dumps(body)) is None


def test_a_name_behind_an_escape_is_found() -> None:
    data = jsonio.dumps(openai({"url": FAR})).replace(b'"image_url":', b'"image\\u005furl":')
    hidden = data.replace(b'"url":', b'"\\u0075rl":')
    for each in (data, hidden):
        assert suspicious(each)
        assert naming_in(each) is not None


@pytest.mark.parametrize("hidden", ['"d\\u0061ta":"' + FAR, '"data":"\\u0068ttp://x/', '"data" : "http'])
def test_so_is_an_address_in_the_place_of_a_sound(hidden: str) -> None:
    body = b'{"messages":[{"content":[{"input_audio":{%b"}}]}]}' % hidden.encode()
    assert suspicious(body)
    assert naming_in(body) is not None


def test_a_body_with_files_alone_is_never_parsed() -> None:
    assert not suspicious(jsonio.dumps(openai({"url": HERE + "A" * 100_000})))
    assert not suspicious(jsonio.dumps({"messages": [{"content": "https://example.org \\u00e9"}]}))
    for file in ({"input_audio": {"data": "UklGRiQA" * 9}}, {"file": {"file_data": "data:application/pdf;base64,AA"}}):
        assert not suspicious(jsonio.dumps({"messages": [{"content": [file]}]}))


def test_how_deep_it_nests_is_no_matter() -> None:
    assert naming_in(b'{"messages":' + b"[" * 900 + b'{"image_url":"x"}' + b"]" * 900 + b"}") is not None


@pytest.mark.parametrize("data", [b"", b"[]", b"nonsense", b"\xff"])
def test_what_is_no_object_names_nothing(data: bytes) -> None:
    assert naming_in(data) is None


@pytest.mark.parametrize("inside", [b"[" * 2000 + b"]" * 2000, b'"\\ud800"'])
def test_an_object_that_only_an_engine_can_read_goes_to_none(inside: bytes) -> None:
    """More patient parsers would find the address in it."""
    with pytest.raises(Hal0Error, match="cannot read the body"):
        naming_in(b'{"pad":' + inside + b',"messages":[{"image_url":"' + FAR.encode() + b'"}]}')


def test_a_mark_in_front_that_an_engine_passes_over_hides_nothing() -> None:
    body = jsonio.dumps({"messages": [{"image_url": FAR}]})
    assert naming_in(b"\xef\xbb\xbf" + body) is not None
    with pytest.raises(Hal0Error, match="cannot read the body"):
        naming_in(b"\xef\xbb\xbf" + body[:-1])
