"""Random lives of slots on virtual time: whatever happens in whatever order, the promises hold."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.slots.chaos import Chaos
from tests.vloop import virtual


@pytest.mark.soak
def test_whatever_happens_the_promises_hold(
    tmp_path: Path, port_block: range, soak_scale: Callable[[int, int], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    for seed in range(soak_scale(200, 20_000)):
        caplog.clear()
        chaos = Chaos(tmp_path / f"w{seed % 2}", port_block, seed)
        virtual(chaos.run())
        chaos.wrong += [record.getMessage() for record in caplog.records if "mistake" in record.getMessage()]
        assert not chaos.wrong, "\n".join([f"seed {seed}", *chaos.wrong, *chaos.trace])
