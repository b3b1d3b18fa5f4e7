"""Was it the out-of-memory killer? The verdict on a container's end, with the evidence it rests on.

podman's own flag comes first, but podman 4.3 never sets it (its monitor leaves the note where nobody looks), so two
more witnesses are heard: the kernel's log, which names the container's cgroup, and the last memory sample.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KILLED: Final = 137  # 128 + SIGKILL, what the killer sends
# A container that was this close to its limit at the last sample, seconds before a SIGKILL, ran into it.
_NEAR: Final = 0.95
_READ_BYTES: Final = 8192  # one kmsg record is at most this long
_MAX_RECORDS: Final = 20_000

_OOM_LINE: Final = re.compile(
    r"oom-kill:.*?(?:oom_memcg|task_memcg)=(?P<cgroup>\S+?),.*?task=(?P<task>[^,]*),pid=(?P<pid>\d+)"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`evidence` is one sentence, empty when nothing points to the killer."""

    oom: bool
    evidence: str = ""


def verdict(
    container_id: str,
    exit_code: int | None,
    *,
    flagged: bool,
    used_bytes: int | None,
    limit_bytes: int | None,
    kernel_log: Iterable[str],
) -> Verdict:
    """Judge an end that hal0 did not ask for. `used_bytes` is the last sample, `limit_bytes` the container's limit."""
    if flagged:
        return Verdict(True, "podman recorded that the kernel killed it for lack of memory")
    if exit_code != KILLED:
        return Verdict(False)
    for line in kernel_log:
        found = _OOM_LINE.search(line)
        if found and container_id in found["cgroup"]:
            return Verdict(True, f"the kernel killed {found['task']} (pid {found['pid']}) for lack of memory")
    if used_bytes is not None and limit_bytes and used_bytes >= limit_bytes * _NEAR:
        return Verdict(True, f"it used {used_bytes} of {limit_bytes} bytes when it was killed")
    return Verdict(False)


def read_kernel_log(path: Path = Path("/dev/kmsg")) -> list[str]:
    """The kernel's messages of this boot, oldest first; none where this process may not read them. Blocking, short."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    lines: list[str] = []
    try:
        for _ in range(_MAX_RECORDS):
            try:
                record = os.read(fd, _READ_BYTES)
            except BrokenPipeError:  # an old record was overwritten while we read: the next one follows
                continue
            except OSError:  # nothing more to read now
                break
            if not record:
                break
            lines.append(record.partition(b";")[2].decode(errors="replace").rstrip("\n"))
    finally:
        os.close(fd)
    return lines
