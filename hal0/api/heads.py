"""Reads the head of a request where it is spelled in the one way that leaves no question. Pure.

Nearly every program sends its requests so. Whatever else there is in HTTP/1.1 (other methods and versions, chunked
bodies, folded or repeated headers, waiting for "100 Continue") is left to a parser that knows all of it: here the
answer is None, and never a guess.
"""

import re
from typing import Final, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

RawHeaders = tuple[tuple[bytes, bytes], ...]

# Token characters (RFC 9110 5.6.2), one space, and a value of visible characters that neither begins nor ends blank.
_NAME: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = rb"[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?"
_HEAD: Final = re.compile(rb"POST (/[!-~]*) HTTP/1\.1\r\n((?:%b: %b\r\n)+)\r\n" % (_NAME, _VALUE))
_FIELD: Final = re.compile(rb"(%b): (%b)\r\n" % (_NAME, _VALUE))
# What changes how a request or its answer is framed, how long it waits, or who is asking: a browser, or its pages.
_UNUSUAL: Final = frozenset(
    {
        *("Content-Encoding", "Cookie", "Expect", "Keep-Alive", "Origin", "Proxy-Connection", "TE", "Trailer"),
        *("Transfer-Encoding", "Upgrade", "X-Hal0-Hold"),
    }
)
_ONCE: Final = ("Host", "Content-Length")


class Heading(NamedTuple):
    """The target as it was written, and the headers."""

    target: str
    headers: CIMultiDictProxy[str]
    raw: RawHeaders


def read(head: bytes) -> Heading | None:
    """`head` ends with its empty line. None where it is not the ordinary POST of a client that keeps its connection."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return None
    raw: RawHeaders = tuple(_FIELD.findall(match[2]))
    headers = CIMultiDictProxy(
        CIMultiDict((name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in raw)
    )
    if any(len(headers.getall(name, ())) != 1 for name in _ONCE) or any(name in headers for name in _UNUSUAL):
        return None
    if any(value.lower() != "keep-alive" for value in headers.getall("Connection", ())):
        return None
    return Heading(match[1].decode("ascii"), headers, raw)
