"""Random lives of slots on virtual time: whatever happens in whatever order, the promises hold."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.mark.soak
def test_whatever_happens_the_promises_hold(soak_scale: Callable[[int, int], int]) -> None:
    """One process per processor lives its share: this is nothing but computing."""
    count, shares = soak_scale(2_000, 50_000), os.cpu_count() or 1
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.unit.slots.seeds", str(share), str(count), str(shares)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for share in range(shares)
    ]
    told = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * shares, "\n".join(told)
    assert sum(int(text.rpartition("lived ")[2]) for text in told) == count, told
