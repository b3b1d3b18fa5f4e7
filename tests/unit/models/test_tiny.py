"""The tests' own models are the same bytes every time, so a result never depends on when they were made."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import gguf_models


@pytest.mark.parametrize(
    "write",
    [
        gguf_models.write_chat,
        gguf_models.write_embed,
        gguf_models.write_rerank,
        gguf_models.write_judge,
        gguf_models.write_mmproj,
    ],
    ids=lambda write: write.__name__,
)
def test_same_arguments_same_bytes(tmp_path: Path, write: Callable[..., Path]) -> None:
    first, again, other = (write(tmp_path / f"{n}.gguf", seed=seed).read_bytes() for n, seed in enumerate((1, 1, 2)))

    assert first == again
    assert first != other
    assert len(first) < 500_000
