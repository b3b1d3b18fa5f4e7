"""A load of the real engine: how far it is, and that it can work before it counts as ready."""

import asyncio
import os
from pathlib import Path

from tests.podman.daemon import Daemon, Operator
from tests.tiny import gguf_models


async def shown_until_ready(operator: Operator, job_id: str) -> list[tuple[str | None, float | None]]:
    """Every source and fraction that the slot showed on the way."""
    seen: list[tuple[str | None, float | None]] = []
    while (job := await operator.get(f"/api/jobs/{job_id}"))["ended_at"] is None:
        progress = (await operator.slot())["progress"]
        if progress and progress["phase"] == "loading":
            seen.append((progress["source"], progress["fraction"]))
        await asyncio.sleep(0.01)
    assert job["state"] == "done", job["error"]
    return seen


def forget(path: Path) -> None:
    """Out of the page cache: what is read again comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def test_the_bytes_that_the_engine_reads_are_shown(daemon: Daemon) -> None:
    """Half a gigabyte of random weights from the disk: more than one value, and none goes back."""
    daemon.config = "[slots.primary]\nverify_on_load = true\n"
    daemon.prepare()
    forget(gguf_models.write_chat(daemon.models / "big-chat.gguf", dim=1024, layers=16))
    await daemon.start()
    async with daemon.operator() as operator:
        job = await operator.post("/api/slots/primary/swap", {"model": "big-chat"}, expect=202)
        seen = await shown_until_ready(operator, job["id"])
        read = [fraction for source, fraction in seen if source == "read" and fraction is not None]
        assert read
        assert len(set(seen)) > 1, seen
        assert read == sorted(read)
        assert 0 < read[0] <= read[-1] <= 0.9
        await operator.verb("primary", "unload")
        # The second load knows how long the first one took, until it reads.
        assert (await operator.slot())["expected_load_s"] > 0
