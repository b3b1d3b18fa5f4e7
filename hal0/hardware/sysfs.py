"""One value from one kernel file: what cannot be read, or is not what it should be, is None."""

from pathlib import Path


def text(path: Path) -> str | None:
    """The file's text without its last newline."""
    try:
        return path.read_text(errors="replace").strip()
    except (OSError, ValueError):
        return None


def number(path: Path, base: int = 10) -> int | None:
    """The one whole number in a file, from 0; base 16 takes the kernel's `0x1002`."""
    try:
        value = int(text(path) or "", base)
    except ValueError:
        return None
    return value if value >= 0 else None


def entries(path: Path) -> tuple[Path, ...]:
    """What is in a directory, by name."""
    try:
        return tuple(sorted(path.iterdir()))
    except OSError:
        return ()
