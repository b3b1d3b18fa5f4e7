"""Waits on hal0's own event stream for a slot to be shown in some way, and says when it was."""

import time
from collections.abc import Callable
from typing import Any

from tests.bench.daemon import Daemon


def when_shown(daemon: Daemon, slot: str, wanted: Callable[[dict[str, Any]], bool], cause: Callable[[], None]) -> float:
    """Time of day at which the event stream first shows the slot as wanted, after the cause."""
    stream = daemon.client.events()
    caused = False
    for event in stream:
        now = time.time()
        data = event.data
        if isinstance(data, dict) and data.get("topic") == "slot" and data.get("id") == slot:
            if caused and data["value"] and wanted(data["value"]):
                stream.close()
                return now
            if not caused:  # the snapshot has come: from here on nothing is missed
                caused = True
                cause()
    raise SystemExit(f"cannot measure {slot}: the event stream ended")
