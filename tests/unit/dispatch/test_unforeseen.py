"""Failures that nobody foresaw."""

import errno

import pytest

from hal0.dispatch.unforeseen import unexpected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "server.exhausted"),
        (OSError(errno.EMFILE, "Too many open files", "/secret"), "server.exhausted"),
        (RuntimeError("can't start new thread"), "server.exhausted"),
        (RuntimeError("another"), "system.internal"),
        (OSError(errno.EIO, "Input/output error"), "system.internal"),
        (None, "system.internal"),
    ],
)
def test_what_nobody_foresaw_is_a_mistake_unless_the_machine_has_nothing_left(
    error: BaseException | None, code: str
) -> None:
    told = unexpected(error)
    assert told.code == code
    assert "secret" not in told.message
