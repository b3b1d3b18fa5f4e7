"""What nvidia-smi prints of processes, as recorded, and what is read of it."""

from typing import Final

import pytest

from hal0.hardware.footprint import GpuBytes
from hal0.hardware.nvidia import parse
from tests.unit.hardware.trees import MIB

ONE, TWO = "0000:01:00.0", "0000:0a:00.0"
TWO_CARDS: Final = (
    "4711, 00000000:01:00.0, 8123",
    "4712, 00000000:01:00.0, 400",
    "4711, 00000000:0A:00.0, 12",
    "99, 00000000:0A:00.0, 20000",  # a desktop's
)
TABLE: Final = {
    "ours together, per card": (TWO_CARDS, (GpuBytes(ONE, 8523 * MIB), GpuBytes(TWO, 12 * MIB))),
    "not told, as on Windows": (("4711, 00000000:01:00.0, [N/A]",), ()),
    "one of two not told: half a sum is no figure": (
        ("4711, 00000000:01:00.0, 8123", "4712, 00000000:01:00.0, [Insufficient Permissions]"), (),
    ),
    "a domain beyond the first 65536": (("4711, 10000:01:00.0, 1",), (GpuBytes("10000:01:00.0", MIB),)),
    "nobody computes": ((), ()),
    "a driver that is not loaded": (
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "", "a, b, c"), (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), TABLE.values(), ids=TABLE)
def test_what_is_printed(lines: tuple[str, ...], expected: tuple[GpuBytes, ...]) -> None:
    assert parse(lines, {4711, 4712}) == expected
