"""Where a returning listener of the event stream stood."""

import pytest

from hal0.api.events import place


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        (None, None),
        ("", None),
        ("b007-0", 0),
        ("b007-12", 12),
        ("other-12", -1),
        ("b007-", -1),
        ("b007", -1),
        ("b007--3", -1),
        ("b007-1e3", -1),
        ("b007-²", -1),
        ("b007-" + "9" * 30, -1),
    ],
)
def test_only_ids_of_this_start_have_a_place(asked: str | None, after: int | None) -> None:
    assert place(asked, "b007") == after
