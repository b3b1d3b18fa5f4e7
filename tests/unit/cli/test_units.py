"""Sizes, durations and foreign text as people see them."""

import pytest

from hal0.cli import units


@pytest.mark.parametrize(
    ("count", "binary", "shown"),
    [
        (None, False, "-"),
        (0, False, "0 B"),
        (999, False, "999 B"),
        (4_096, False, "4 kB"),
        (21_400_000_000, False, "21.4 GB"),
        (21_400_000_000, True, "19.9 GiB"),
        (1_048_576, True, "1.0 MiB"),
        (5e15, False, "5000.0 TB"),
    ],
)
def test_sizes(count: float | None, binary: bool, shown: str) -> None:
    assert units.size(count, binary=binary) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (13.9, "13 s"),
        (60, "1 min"),
        (286, "4 min 46 s"),
        (960, "16 min"),
        (21_700, "6 h"),
        (530_000, "6 d"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert units.duration(seconds) == shown


@pytest.mark.parametrize(("tokens", "shown"), [(None, "-"), (32768, "32K"), (4096, "4K"), (1000, "1000")])
def test_contexts(tokens: int | None, shown: str) -> None:
    assert units.context(tokens) == shown


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07red",
        "\x1b]52;c;aGk=\x1b\\red",
        "\x08red",
        "\x9bred",
        "\rred\x00",
    ],
)
def test_text_of_an_engine_cannot_drive_the_terminal(hostile: str) -> None:
    assert units.plain(hostile) == "red"
