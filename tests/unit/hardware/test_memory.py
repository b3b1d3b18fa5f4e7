"""Memory figures from procfs texts."""

from pathlib import Path

from hal0.hardware.memory import Memory, parse, read


def test_figures_are_bytes() -> None:
    text = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    4000 kB\nHugePages_Total:       0\n"
    assert parse(text) == Memory(16_384_000, 4_096_000)


def test_an_old_kernel_tells_only_what_is_free() -> None:
    assert parse("MemTotal: 8 kB\nMemFree: 2 kB\n") == Memory(8192, 2048)


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == Memory(0, 0)
    assert parse("") == Memory(0, 0)


def test_this_machine_has_memory() -> None:
    memory = read()
    assert 0 < memory.available_bytes <= memory.total_bytes
