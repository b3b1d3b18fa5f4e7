"""What goes on beside the tests tells how it ended, stands still on request, and ends with them."""

from pathlib import Path

import pytest

from tests.beside import Beside, standing_still


def state(made: Beside) -> str:
    return Path(f"/proc/{made.pid}/stat").read_text().rpartition(") ")[2][0]


def test_its_words_and_its_failure_are_told() -> None:
    well, badly = Beside("this"), Beside("no_such_module")
    try:
        assert "Beautiful is better than ugly." in well.told()
        with pytest.raises(AssertionError, match="no_such_module"):
            badly.told()
    finally:
        well.end()
        badly.end()


def test_it_stands_still_for_a_test_that_measures_and_ends_when_nobody_asks_any_more() -> None:
    made = Beside("http.server", "0", "--bind", "127.0.0.1")
    try:
        with standing_still():
            while state(made) != "T":  # the signal is on its way
                pass
        while state(made) == "T":
            pass
    finally:
        made.end()
    assert not Path(f"/proc/{made.pid}").exists()
