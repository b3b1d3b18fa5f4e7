"""hal0's event stream, read in the background so that the foreground can tick, redraw and be interrupted."""

import queue
import threading
import time
from types import TracebackType
from typing import Final, Self

from hal0.client import Client, ClientError, SseEvent, Stream, Unreachable

RECONNECT_FOR_S: Final = 15.0  # a restart of hal0 takes about two seconds; an upgrade a few more
RECONNECT_EVERY_S: Final = 0.2
LEAVE_S: Final = 0.5  # an interrupted reader ends at once; one that still connects is left behind


class Feed:
    """Events of `/api/events` from the moment of entering; reconnects by itself for a while, then gives up aloud."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: queue.SimpleQueue[SseEvent | ClientError] = queue.SimpleQueue()
        self._stream: Stream | None = None
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name="events", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if self._stream is not None:
            self._stream.interrupt()
        self._reader.join(timeout=LEAVE_S)

    def next(self, timeout_s: float) -> SseEvent | None:
        """The next event, None after `timeout_s` without one. Raises what ended the stream for good."""
        try:
            item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, ClientError):
            raise item
        return item

    def _read(self) -> None:
        last_id: str | None = None
        answered: float | None = None
        while not self._closed.is_set():
            try:
                self._stream = self._client.events(last_id)
                for event in self._stream:
                    if self._closed.is_set():
                        return
                    answered, last_id = time.monotonic(), event.id or last_id
                    self._queue.put(event)
            except Unreachable as e:
                if answered is None or time.monotonic() - answered > RECONNECT_FOR_S:
                    self._queue.put(e)
                    return
            except ClientError as e:
                self._queue.put(e)
                return
            self._closed.wait(RECONNECT_EVERY_S)


def entity(event: SseEvent) -> tuple[str, str, dict[str, object] | None]:
    """(topic, id, value) of an event; hello, reset and strangers have an empty topic."""
    data = event.data
    if not isinstance(data, dict) or "topic" not in data:
        return "", "", None
    return str(data["topic"]), str(data.get("id", "")), data.get("value")
