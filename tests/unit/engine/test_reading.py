"""What a container's processes have read, from a /proc that the test writes."""

from pathlib import Path

import pytest

from hal0.engine.base import ContainerInfo, ContainerStatus
from hal0.engine.reading import bytes_read, processes

ID = "c" * 64


def process(proc: Path, pid: int, children: str = "", /, *, rss_kb: int = 0, rchar: int = 0, stored: int = 0) -> None:
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "task" / str(pid) / "children").write_text(children)
    (folder / "cgroup").write_text(f"0::/libpod-{ID}\n")
    (folder / "stat").write_text(f"{pid} (engine) S 1 0")
    (folder / "status").write_text(f"Name:\tengine\nRssAnon:\t 7 kB\nRssFile:\t  {rss_kb} kB\n")
    (folder / "io").write_text(f"rchar: {rchar}\nwchar: 1\nread_bytes: {stored}\nwrite_bytes: 0\n")


def info(pid: int, container_id: str = ID) -> ContainerInfo:
    return ContainerInfo(id=container_id, name="x", status=ContainerStatus.RUNNING, labels={}, pid=pid)


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        ({"rss_kb": 500, "rchar": 10, "stored": 20}, 512_000),
        ({"rss_kb": 1, "rchar": 900_000, "stored": 20}, 900_010),
        ({"rss_kb": 1, "rchar": 10, "stored": 800_000}, 800_000),
    ],
)
def test_whichever_way_it_reads_is_seen_and_an_init_before_it_does_not_hide_it(
    tmp_path: Path, counters: dict[str, int], expected: int
) -> None:
    process(tmp_path, 7, "8 ", rchar=10)
    process(tmp_path, 8, **counters)
    found = bytes_read(info(7), tmp_path)
    assert found is not None
    assert abs(found - expected) <= 1024


def test_a_process_that_is_not_the_containers_is_not_looked_at(tmp_path: Path) -> None:
    process(tmp_path, 7, rchar=10)
    assert bytes_read(info(7, "d" * 64), tmp_path) is None
    assert bytes_read(info(0), tmp_path) is None
    assert bytes_read(info(9), tmp_path) is None
    assert processes(info(7, "d" * 64), tmp_path) == processes(info(0), tmp_path) == processes(info(9), tmp_path) == ()


def test_its_processes_are_its_first_one_and_those_below(tmp_path: Path) -> None:
    process(tmp_path, 7, "8 10 ")
    process(tmp_path, 8, "9")
    process(tmp_path, 11)
    assert processes(info(7), tmp_path) == (7, 8, 9, 10)
