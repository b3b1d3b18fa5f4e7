"""How a request ends: honestly towards its client, and with exactly one record, whatever happened."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from aiohttp import web

from hal0.dispatch.downstream import Downstream
from hal0.dispatch.trace import Trace
from hal0.dispatch.unforeseen import unexpected
from hal0.errors import Hal0Error
from hal0.observe.decisions import Decisions


class Noted:
    """Around all that happens to a request: what it ends with goes into its trace, and the trace into the log."""

    def __init__(self, trace: Trace, decisions: Decisions, time: Callable[[], float]) -> None:
        self._trace = trace
        self._decisions = decisions
        self._time = time

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Hal0Error):
            self._trace.failed(error)
        elif isinstance(error, asyncio.CancelledError | ConnectionError):
            self._trace.client_gone()
        elif error is not None:
            self._trace.failed(unexpected(error))
        self._decisions.add(self._trace.record(self._time()))


async def honestly(down: Downstream, trace: Trace, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Do the work. A failure behind the head of an answer ends it visibly; before, it is raised."""
    try:
        return await work
    except Hal0Error as error:
        if not down.started:
            raise
        trace.failed(error)
        return down.fail(error)
    except Exception:
        if down.started:
            down.cut()  # a second answer behind the first would be taken for a part of it
        raise
    finally:
        down.close()
        trace.bytes_out = down.bytes_out
