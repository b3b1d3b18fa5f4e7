"""What nobody foresaw, as a request's client and its record are told it."""

import errno

from hal0.errors import Hal0Error


def unexpected(error: BaseException | None) -> Hal0Error:
    """What nobody foresaw, as clients are told it; a machine that has nothing left is no mistake of hal0's."""
    match error:
        case MemoryError():
            lacks = "memory"
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            lacks = "file that hal0 could open"
        case RuntimeError(args=("can't start new thread",)):
            lacks = "thread"
        case _:
            return Hal0Error("system.internal", "cannot answer: hal0 made a mistake")
    return Hal0Error("server.exhausted", f"cannot answer: this machine has no {lacks} left")
