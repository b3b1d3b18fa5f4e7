"""Takes a request's body in the form that its path has, and finds what routing needs in it."""

from typing import Final

from aiohttp import HttpVersion11, web

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.body import Body, Share
from hal0.dispatch.form import Form, NotForm, boundary_of
from hal0.dispatch.headers import get
from hal0.dispatch.keeping import Keeping
from hal0.dispatch.peek import Incoming, Peek, named, read_json, refuse_early
from hal0.dispatch.surface import BodyKind, PathRow
from hal0.errors import Hal0Error

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIELDS: Final = ("model", "stream")
_NOTHING: Final = Peek(model=None, stream=False, encoding_format=None)


def limit_of(row: PathRow, content_type: str, config: DispatchConfig) -> int:
    """The most bytes that a body of this kind may have."""
    is_form = row.body is BodyKind.FORM and not _is_json(row, content_type)
    return config.multipart_limit if is_form else config.json_limit


def refuse(request: web.Request, row: PathRow, config: DispatchConfig) -> None:
    """Refuse by the headers alone, before a byte of the body is asked for."""
    refuse_early(request.headers, limit_of(row, request.headers.get("Content-Type", ""), config))


def invite(request: web.Request) -> None:
    """A client that asked first is told to send its body only now, after everything that refuses early."""
    expected = (get(request.raw_headers, b"expect") or b"").strip().lower() == b"100-continue"
    if expected and request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(_CONTINUE)


async def take(request: web.Request, row: PathRow, spool: Share, config: DispatchConfig) -> tuple[Body, Peek]:
    """The whole body and its peek. Raises request.* errors; the caller closes the body."""
    content_type = request.headers.get("Content-Type", "")  # aiohttp refuses a second one
    limit = limit_of(row, content_type, config)
    if row.body is BodyKind.NONE:
        peek = _NOTHING._replace(model=named(request.query.get("model")))
        return await _any(Incoming(request.content), spool, limit), peek
    if row.body is BodyKind.RAW:
        return await _any(Incoming(request.content), spool, limit), _NOTHING._replace(model=request.match_info["name"])
    if _is_json(row, content_type):
        return await read_json(request.content, spool, limit)
    return await _form(Incoming(request.content), spool, limit, content_type)


def _is_json(row: PathRow, content_type: str) -> bool:
    """On a path with forms a JSON object has to say what it is; on the others nobody is asked."""
    said = content_type.partition(";")[0].strip().lower()
    return row.body is BodyKind.JSON or (row.body is BodyKind.FORM and said == "application/json")


async def _any(content: Incoming, spool: Share, limit: int) -> Body:
    keeping = Keeping(spool, limit)
    try:
        while piece := await content.next():
            await keeping.take(piece)
        return await keeping.body()
    finally:
        keeping.close()


async def _form(content: Incoming, spool: Share, limit: int, content_type: str) -> tuple[Body, Peek]:
    """The file may come before the fields, so all of it is read; only what is asked for is looked at."""
    keeping = Keeping(spool, limit)
    try:
        boundary = boundary_of(content_type)
        form = Form(boundary, _FIELDS)
        while piece := await content.next():
            form.feed(piece)
            await keeping.take(piece)
        form.finish()
        peek = _NOTHING._replace(model=named(form.values.get("model")), stream=form.values.get("stream") == "true")
        return await keeping.body(boundary), peek
    except NotForm as error:
        raise Hal0Error("request.invalid_form", f"cannot read the body as a form: {error}") from None
    finally:
        keeping.close()
