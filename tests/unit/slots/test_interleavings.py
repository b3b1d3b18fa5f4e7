"""Random lives of slots on virtual time: whatever happens in whatever order, the promises hold."""

import pytest

from tests.unit.slots.all_lives import Lives


@pytest.mark.soak
def test_whatever_happens_the_promises_hold(lives: Lives) -> None:
    """2 000 lives, 50 000 with HAL0_SOAK=1."""
    lives.told()
