"""Forms: fields are found wherever they stand, in any pieces; what two readers may read differently is refused."""

from collections.abc import Iterable, Mapping
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch.form import Form, NotForm, boundary_of, parts_of
from hal0.dispatch.rewrite import apply, form_splices
from hal0.providers.base import Part

B = b"--b"
FILE = b'Content-Disposition: form-data; name="file"; filename="model.wav"\r\nContent-Type: audio/wav'
MODEL = b'Content-Disposition: form-data; name="model"'
SOUND = bytes(range(256)) * 4 + b"\r\n--\r\n--bogus\r\n\r\n-- b"


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(B + b"\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts) + B + b"--\r\n"


def read(body: bytes, pieces: Iterable[bytes] | None = None, boundary: bytes = b"b") -> Form:
    made = Form(boundary, ("model", "stream"))
    for piece in (body,) if pieces is None else pieces:
        made.feed(piece)
    made.finish()
    return made


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


BEFORE = form((MODEL, b"whisper"), (FILE, SOUND))
AFTER = form((FILE, SOUND.replace(b"--bogus", b"-bogus")), (MODEL, "wh\u00efsper".encode()))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 100_000])
@pytest.mark.parametrize(
    ("body", "model"), [(BEFORE.replace(b"--bogus", b"-bogus"), "whisper"), (AFTER, "wh\u00efsper")]
)
def test_a_field_is_found_before_and_after_the_file_in_any_pieces(body: bytes, model: str, size: int) -> None:
    found = read(body, cut(body, size))
    assert found.values == {"model": model}
    ((start, end),) = found.spans["model"]
    assert body[start:end].decode() == model


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_only_looks_like_a_boundary_is_content(size: int) -> None:
    body = form((FILE, b"x--b--b--b- --b\r\n-b\r\n--a\r\r\n"), (MODEL, b"m"))
    assert read(body, cut(body, size)).values == {"model": "m"}


@pytest.mark.parametrize(
    "body",
    [
        form((MODEL, b"m")),
        b"\r\n" + form((MODEL, b"m")),
        form((MODEL, b"m"))[:-2],
        form((MODEL, b"m")) + b"\r\n",
        form((b"X-Other: 1\r\ncontent-disposition:form-data;name=model ;x=y", b"m")),
        form((MODEL + b"\r\nContent-Transfer-Encoding: 8bit", b"m")),
        form((FILE, b""), (MODEL, b"m")),
    ],
)
def test_what_clients_write_is_read(body: bytes) -> None:
    assert read(body).values == {"model": "m"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is empty"),
        (b"--", "it ends before"),
        (b'{"model": "x"}', "does not begin with its boundary"),
        (b"preamble\r\n" + form((MODEL, b"m")), "does not begin with its boundary"),
        (form((MODEL, b"m"))[:-4], "it ends before"),
        (form((FILE, SOUND[:40]))[:30], "it ends before"),
        (form((MODEL, b"m")) + form((MODEL, b"n")), "more follows"),
        (form((MODEL, b"m"), (MODEL, b"m")), "more than once"),
        (form((MODEL + b'; filename="x"', b"m")), "is a file"),
        (form((MODEL + b"; filename*=UTF-8''x", b"m")), "is a file"),
        (form((MODEL + b'; name="other"', b"m")), "which field"),
        (form((MODEL + b"; name*=UTF-8''other", b"m")), "which field"),
        (form((b'Content-Disposition: form-data; name="mo\\del"', b"m")), "backslash"),
        (form((b'Content-Disposition: attachment; name="model"', b"m")), "which field"),
        (form((b'Content-Disposition: form-data; name="model', b"m")), "parameter"),
        (form((MODEL + b"\r\n" + MODEL, b"m")), "more than one content-disposition"),
        (form((MODEL + b"\r\n folded", b"m")), "header that is none"),
        (form((MODEL + b"\nX: y", b"m")), "header that is none"),
        (form((MODEL + b"\r\nContent-Transfer-Encoding: base64", b"bQ==")), "is encoded"),
        (form((b"Content-Type: text/plain", b"m")), "which field"),
        (B + b"\r\n\r\nm\r\n" + B + b"--\r\n", "no headers"),
        (form((MODEL, b"\xff")), "not UTF-8"),
        (form((MODEL, b"m" * 5000)), "too long"),
        (form((b"X: " + b"y" * 20_000, b"m")), "have no end"),
        (form(*[(FILE, b"")] * 1001), "more than 1000 parts"),
        # Readers that end lines at a bare LF or CR would see a part where others see a part's content.
        (form((FILE, b"x\n--b\r\n" + MODEL + b"\r\n\r\nother")), "half a line's end"),
        (form((FILE, b"x\r--b\r\n" + MODEL + b"\r\n\r\nother")), "half a line's end"),
        (B + b"\r\n" + FILE + b"\r\n\r\n" + B + b"--\r\n", "no line of its own"),
        (form((FILE, b"x\r\n--bogus")), "does not end its line"),
        (form((FILE, b"x\r\n--b \r\n" + MODEL + b"\r\n\r\nother")), "does not end its line"),
    ],
)
@pytest.mark.parametrize("size", [1, 9, 100_000])
def test_what_not_everybody_reads_alike_is_refused(body: bytes, why: str, size: int) -> None:
    with pytest.raises(NotForm, match=why):
        read(body, cut(body, size))


def test_only_what_is_asked_for_is_kept() -> None:
    made = Form(b"b", ("model",))
    made.feed(B + b"\r\n" + FILE + b"\r\n\r\n")
    for _ in range(1000):
        made.feed(b"\r\n--a" * 4096)
    assert len(made._data) < 6 * 4096


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b", b"b"),
        ('Multipart/Form-Data;charset=utf-8; Boundary="a b\'()+_,-./:=?"', b"a b'()+_,-./:=?"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
        ("multipart/form-data; boundary=a=_b?c;", b"a=_b?c"),
    ],
)
def test_a_boundary_is_what_the_content_type_says(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-datax; boundary=b",
        "multipart/mixed; boundary=b",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="b "',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/form-data; boundary=b; boundary=c",
        "multipart/form-data; boundary=b, text/plain",
        'multipart/form-data; boundary="a\\b"',
        "multipart/form-data; boundary=b\u00e9",
    ],
)
def test_a_boundary_that_is_none_is_refused(content_type: str) -> None:
    with pytest.raises(NotForm):
        boundary_of(content_type)


def test_edits_change_their_fields_and_nothing_else() -> None:
    body = BEFORE.replace(b"--bogus", b"-bogus")
    cuts = form_splices(read(body), b"b", {"model": "tag:1b", "n": 2})
    edited = apply(body, cuts)
    added = B + b'\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n'
    assert edited == added + body.replace(b"whisper", b"tag:1b")
    assert read(edited).values == {"model": "tag:1b"}


@given(
    st.dictionaries(st.sampled_from(["model", "stream", "prompt", "file"]), st.text(max_size=200), max_size=4),
    st.lists(st.integers(1, 40)),
)
def test_whatever_a_form_holds_its_fields_are_found(fields: Mapping[str, str], sizes: list[int]) -> None:
    heads = {name: b'Content-Disposition: form-data; name="%b"' % name.encode() for name in fields}
    parts = form(*[(heads[name], text.encode()) for name, text in fields.items()]) if fields else B + b"--\r\n"
    body = parts.replace(B, b"--0123456789abcdef")
    pieces = [body[at : at + size] for at, size in zip(accumulate(sizes, initial=0), sizes, strict=False)]
    found = read(body, [*pieces, body[sum(sizes) :]], b"0123456789abcdef").values
    assert found == {name: text for name, text in fields.items() if name in ("model", "stream")}


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_a_form_or_not_and_the_pieces_have_no_say(body: bytes, size: int) -> None:
    def outcome(pieces: Iterable[bytes]) -> object:
        try:
            return read(body, pieces).values
        except NotForm:
            return None

    body = body.replace(b"\x01", B).replace(b"\x02", b"\r\n").replace(b"\x03", MODEL)
    assert outcome([body]) == outcome(cut(body, size))


@given(st.lists(st.tuples(st.sampled_from(["image", "prompt", "n"]), st.booleans(), st.binary(max_size=60))))
def test_the_parts_are_what_was_put_in(parts: list[tuple[str, bool, bytes]]) -> None:
    heads = [
        (f'Content-Disposition: form-data; name="{name}"' + '; filename="f"' * file).encode() for name, file, _ in parts
    ]
    body = form(*zip(heads, (data for *_, data in parts), strict=True))
    try:
        read(body)
    except NotForm:  # the data holds a boundary
        return
    if not parts:
        return
    expected = [Part(name, "f" if file else None, data) for name, file, data in parts]
    assert parts_of(body, b"b") == expected
    assert parts_of(b"\r\n" + body + b"\r\n", b"b") == expected
