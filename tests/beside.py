"""Work of a test run that goes on beside its tests: in processes that yield to all else and stand still on request."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_END_S: Final = 20.0
_running: Final[list["Beside"]] = []


class Beside:
    """One module run as a program, with whatever it starts."""

    def __init__(self, module: str, *words: str) -> None:
        self._process = subprocess.Popen(
            ["nice", "-n", "19", sys.executable, "-W", "error", "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # not a session of its own: its niceness would count within that alone
        )
        _running.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def told(self) -> str:
        """Wait for its end: what it said. AssertionError with that when it failed."""
        text = self._process.communicate()[0]
        assert self._process.returncode == 0, text
        return text

    def end(self) -> None:
        """Nobody asks any more."""
        _running.remove(self)
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self.signal(signal.SIGKILL)
        with self._process:  # waits for it, closes what it spoke into
            pass

    def signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


@contextmanager
def standing_still() -> Iterator[None]:
    """Inside, nothing goes on beside the test: it measures."""
    try:
        for one in _running:
            one.signal(signal.SIGSTOP)
        yield
    finally:
        for one in _running:
            one.signal(signal.SIGCONT)
