"""The verdict of the out-of-memory killer, from recorded kernel messages."""

import os
import threading
from pathlib import Path

import pytest

from hal0.engine.oom import read_kernel_log, verdict

ID = "4f2a" * 16
KERNEL = (
    "llama-server invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    (
        f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=libpod-{ID},mems_allowed=0,"
        f"oom_memcg=/libpod_parent/libpod-{ID},task_memcg=/libpod_parent/libpod-{ID},task=llama-server,pid=4711,uid=0"
    ),
)


@pytest.mark.parametrize(
    ("exit_code", "flagged", "used", "kernel", "oom", "words"),
    [
        (137, True, None, (), True, "podman recorded"),
        (137, False, None, KERNEL, True, "pid 4711"),
        (137, False, 990, (), True, "990 of 1000"),
        (137, False, 500, (), False, ""),
        (137, False, None, (KERNEL[1].replace(ID, "beef" * 16),), False, ""),
        (139, False, 1000, KERNEL, False, ""),
        (None, False, 1000, KERNEL, False, ""),
    ],
)
def test_each_witness_is_heard(
    exit_code: int | None, flagged: bool, used: int | None, kernel: tuple[str, ...], oom: bool, words: str
) -> None:
    found = verdict(ID, exit_code, flagged=flagged, used_bytes=used, limit_bytes=1000, kernel_log=kernel)
    assert found.oom is oom
    assert words in found.evidence


def test_records_are_read_until_there_are_no_more(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)  # as with the real device: an empty log is not its end
    try:
        writer = threading.Thread(target=lambda: path.write_bytes(b"6,1,100,-;first message\n"))
        writer.start()
        writer.join()
        assert read_kernel_log(path) == ["first message"]
    finally:
        os.close(keep)


def test_a_log_that_may_not_be_read_is_empty(tmp_path: Path) -> None:
    assert read_kernel_log(tmp_path / "none") == []
