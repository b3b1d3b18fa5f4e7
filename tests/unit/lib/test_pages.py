"""The heap on large pages: which memory is asked for, and that nobody is bothered where it is not wanted."""

from pathlib import Path

import pytest

from hal0.lib import pages

MIB = 1024 * 1024
MAPS = """\
55d000100000-55d000b00000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
7f0000300000-7f0000400000 rw-p 00000000 00:00 0
7f1000000000-7f1000800000 rw-p 00000000 08:01 77                         /usr/lib/libc.so.6
7f2000000000-7f2000800000 r-xp 00000000 00:00 0
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0                          [stack]
"""


def test_only_whole_large_pages_of_plain_memory_are_asked_for() -> None:
    assert list(pages.heap(MAPS.splitlines())) == [(0x55D000200000, 8 * MIB), (0x7F0000000000, 2 * MIB)]


def test_an_administrator_who_wants_none_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "enabled"
    switch.write_text("always madvise [never]\n")
    monkeypatch.setattr(pages, "_SWITCH", switch)
    assert pages.enlarge() == 0


def test_what_holds_the_memory_is_unharmed() -> None:
    kept = [bytes([n % 256]) * 1024 for n in range(16 * 1024)]
    assert pages.enlarge() % (2 * MIB) == 0
    assert all(block == bytes([n % 256]) * 1024 for n, block in enumerate(kept))
