"""What the composition root reads from the environment."""

import pytest

from hal0.app import slot_ports
from hal0.errors import Hal0Error


def test_slot_ports_are_the_seeds_unless_moved() -> None:
    assert slot_ports({}) == range(8081, 8100)
    assert slot_ports({"HAL0_SLOT_PORTS": "21000-21001"}) == range(21000, 21002)


@pytest.mark.parametrize("text", ["abc", "8081", "8099-8081", "0-5", "8081-70000", "-1-5", "1-2-3"])
def test_ports_that_cannot_be_read_are_refused_with_words(text: str) -> None:
    with pytest.raises(Hal0Error, match="HAL0_SLOT_PORTS"):
        slot_ports({"HAL0_SLOT_PORTS": text})
