"""Telling a process by pid, start time and origin; noticing its end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from hal0.engine import exits
from hal0.engine.base import ContainerInfo, ContainerStatus, EngineEvent, EventKind
from hal0.errors import Hal0Error

ID = "c" * 64


def info(pid: int, *, conmon: int = 0, status: ContainerStatus = ContainerStatus.RUNNING) -> ContainerInfo:
    return ContainerInfo(id=ID, name="c", status=status, labels={}, pid=pid, conmon_pid=conmon, started_at=100.0)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def fake_proc(root: Path, pid: int, *, cgroup: str = "0::/", parent: int = 1, name: str = "llama) 3 (x") -> None:
    directory = root / str(pid)
    directory.mkdir()
    (directory / "cgroup").write_text(cgroup)
    fields = ["S", str(parent), *["0"] * 17, "4242", *["0"] * 10]
    (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (directory / "cmdline").write_text(f"conmon\0-c\0{ID}\0")


def test_start_time_is_read_past_any_name(tmp_path: Path) -> None:
    fake_proc(tmp_path, 7)
    assert exits.start_ticks(7, tmp_path) == 4242
    assert exits.start_ticks(8, tmp_path) is None


def test_start_time_tells_two_processes_apart(sleeper: "subprocess.Popen[bytes]") -> None:
    mine, its = exits.start_ticks(os.getpid()), exits.start_ticks(sleeper.pid)
    assert mine is not None
    assert its is not None
    assert mine < its


@pytest.mark.parametrize(
    ("cgroup", "parent", "conmon", "ours"),
    [
        (f"0::/libpod_parent/libpod-{ID}", 1, 0, True),
        (f"4:memory:/libpod_parent/libpod-{ID}\n0::/", 1, 0, True),
        ("0::/", 50, 50, True),  # cgroups disabled: its parent is the conmon of this container
        ("0::/", 50, 51, False),
        ("0::/user.slice", 1, 0, False),
    ],
)
def test_a_pid_is_the_containers_only_by_evidence(
    sleeper: "subprocess.Popen[bytes]", tmp_path: Path, cgroup: str, parent: int, conmon: int, ours: bool
) -> None:
    fake_proc(tmp_path, sleeper.pid, cgroup=cgroup, parent=parent)
    fake_proc(tmp_path, 50)
    fd = exits.open_pidfd(info(sleeper.pid, conmon=conmon), tmp_path)
    assert (fd is not None) is ours
    if fd is not None:
        os.close(fd)


def test_a_process_is_known_by_when_it_began_where_it_is_the_containers(tmp_path: Path) -> None:
    fake_proc(tmp_path, 7, cgroup=f"0::/libpod_parent/libpod-{ID}")
    fake_proc(tmp_path, 8)
    assert exits.began(info(7), tmp_path) == 4242
    assert [exits.began(info(pid), tmp_path) for pid in (0, 8, 9)] == [None] * 3


def test_a_strangers_pid_is_never_watched(sleeper: "subprocess.Popen[bytes]") -> None:
    assert exits.open_pidfd(info(sleeper.pid)) is None
    assert exits.open_pidfd(info(0)) is None


async def test_the_end_of_a_process_is_noticed_at_once(sleeper: "subprocess.Popen[bytes]") -> None:
    gone = asyncio.create_task(exits.pidfd_gone(os.pidfd_open(sleeper.pid)))
    await asyncio.sleep(0.05)
    assert not gone.done()
    sleeper.kill()
    await asyncio.wait_for(gone, 1)


async def test_giving_up_watching_closes_the_descriptor(sleeper: "subprocess.Popen[bytes]") -> None:
    gone = asyncio.create_task(exits.pidfd_gone(os.pidfd_open(sleeper.pid)))
    await asyncio.sleep(0.05)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone  # the descriptor guard fails this test if it stays open


RESYNC = EngineEvent(EventKind.RESYNC)


@pytest.mark.parametrize(
    ("events", "answers", "returns"),
    [
        ([RESYNC], [None], True),
        ([RESYNC], [info(0, status=ContainerStatus.EXITED)], True),
        ([RESYNC], [info(7)], False),
        ([RESYNC], [Hal0Error("engine.unreachable", "cannot"), None], True),
        ([RESYNC, EngineEvent(EventKind.DIED, ID, at=101.0)], [info(7)], True),
        ([RESYNC, EngineEvent(EventKind.DIED, ID, at=99.0)], [info(7)], False),  # of an earlier run, told again
        ([RESYNC, EngineEvent(EventKind.STARTED, ID, at=101.0)], [info(7)], False),
        ([RESYNC, RESYNC], [info(7), None], True),
        ([RESYNC], [ContainerInfo(id=ID, name="c", status=ContainerStatus.RUNNING, labels={}, started_at=200.0)], True),
    ],
)
async def test_without_a_process_events_and_looks_decide(
    events: list[EngineEvent], answers: list[ContainerInfo | Hal0Error | None], returns: bool
) -> None:
    async def stream() -> AsyncGenerator[EngineEvent, None]:
        for event in events:
            yield event
        await asyncio.Event().wait()

    async def inspect(_: str) -> ContainerInfo | None:
        answer = answers.pop(0)
        if isinstance(answer, Hal0Error):
            raise answer
        return answer

    watching = asyncio.create_task(exits.watch_exit(info(0), events=stream, inspect=inspect))
    done, _ = await asyncio.wait([watching], timeout=30.0 if returns else 0.2)
    assert bool(done) is returns
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
