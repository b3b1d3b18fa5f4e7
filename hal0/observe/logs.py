"""The daemon's own log: one JSON object a line, or plain lines for a person at a terminal."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final

from hal0.lib.clock import iso
from hal0.lib.jsonio import dumps

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Lines(ABC):
    """A message that is many lines, each with members of its own: one record and one write for all of them."""

    @abstractmethod
    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The members of every line, `at` among them."""

    def __str__(self) -> str:
        return "\n".join(dumps(line).decode() for line in self)


class JsonLines(logging.Formatter):
    """Control characters are escaped by JSON itself: nothing that is logged can forge a second line."""

    def format(self, record: logging.LogRecord) -> str:
        origin = {"level": record.levelname.lower(), "logger": record.name}
        if isinstance(record.msg, Lines):
            # Let go one by one: the codec gives each 8 KB of room, and a batch of those is memory no cache has.
            text = bytearray()
            for members in record.msg:
                text += dumps(origin | members)
                text += b"\n"
            return text[:-1].decode()
        line = {"at": iso(record.created), **origin, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return dumps(line).decode()


class PlainLines(logging.Formatter):
    """For a terminal; escape sequences in what is logged are shown, not obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def to_stderr(level: str) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    plain = PlainLines("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(plain if sys.stderr.isatty() else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
