"""What a packed answer counts is read along, for no more memory than it takes."""

import gzip
import tracemalloc

from hal0.dispatch.unpacking import reading


def test_nothing_is_kept_of_what_comes_behind_its_end() -> None:
    seen: list[bytes] = []
    read = reading([(b"Content-Encoding", b"gzip")], seen.append)
    read(gzip.compress(b"all"))
    tracemalloc.start()
    try:
        for _ in range(32):
            read(bytes(64 << 10))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == [b"all"]
    assert kept < 64 << 10
