"""Random lives in processes of their own: they begin with the test run, and use what the other tests leave idle."""

import os
import subprocess
import sys


class Lives:
    """`count` lives, a share for every processor: this is nothing but computing, so it yields to all else."""

    def __init__(self, count: int) -> None:
        self._count = count
        shares = os.cpu_count() or 1
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.unit.slots.seeds", str(share), str(count), str(shares)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for share in range(shares)
        ]
        for process in self._processes:
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)

    def told(self) -> None:
        """Wait for their end; AssertionError with the story of the first life that broke a promise."""
        told = [process.communicate()[0] for process in self._processes]
        assert [process.returncode for process in self._processes] == [0] * len(told), "\n".join(told)
        assert sum(int(text.rpartition("lived ")[2]) for text in told) == self._count, told

    def end(self) -> None:
        """Nobody asks any more."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
