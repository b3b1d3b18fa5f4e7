"""Models that are here, read once more: is every file still what came, or what its publisher says."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from hal0.errors import Hal0Error
from hal0.lib.aside import in_a_thread
from hal0.models.digest import sha256_of
from hal0.models.entry import ModelEntry
from hal0.models.published import digests
from hal0.models.registry import Registry
from hal0.slots.job_tasks import JobTasks
from hal0.slots.jobs import Job, Jobs
from hal0.vocab import By, ModelId
from hal0.wire.jobs import JobKind, JobState


class Verifying:
    """One job per model at a time, and one file at a time: the disk has but one head."""

    def __init__(self, registry: Registry, jobs: Jobs) -> None:
        self._registry = registry
        self._jobs = jobs
        self._reading = asyncio.Lock()
        self._tasks = JobTasks[ModelId](jobs)

    def start(self, model: str) -> Job:
        """The job; the one under way when there is one. Raises as `Registry.require`."""
        entry = self._registry.require(model)
        if (known := self._tasks.get(entry.id)) is not None:
            return known
        job = self._jobs.start(JobKind.MODEL_VERIFY, entry.id, By.OPERATOR)
        return self._tasks.start(entry.id, job, f"verify {entry.id}", self._run(job, entry))

    async def aclose(self) -> None:
        """End what is under way and wait for it."""
        await self._tasks.aclose()

    async def _run(self, job: Job, entry: ModelEntry) -> None:
        record = next((it for it in self._registry.records() if it.id == entry.id), None)
        self._jobs.progress(job, "waiting for others", None)
        async with self._reading:
            known = await in_a_thread(lambda: digests(entry, record, self._registry.store))
            await self._read(job, entry, known)
        unknown = len(entry.files) + (entry.mmproj is not None) - len(known)
        self._jobs.finish(job, JobState.DONE, note=_found(len(known), unknown))

    async def _read(self, job: Job, entry: ModelEntry, known: Mapping[Path, str]) -> None:
        done, whole = 0, max(entry.size_bytes + entry.mmproj_bytes, 1)
        for path, digest in known.items():

            def tell(size_bytes: int, name: str = path.name) -> None:
                nonlocal done
                done += size_bytes
                self._jobs.progress(job, f"checking {name}", min(done / whole, 1.0))

            try:
                made = await sha256_of(path, tell)
            except OSError as e:
                raise Hal0Error("model.not_downloaded", f"cannot read {path}: {e.strerror or e}") from e
            if made != digest:
                raise _damaged(entry, path, made, digest)


def _found(known: int, unknown: int) -> str:
    same = f"{known} file{'s are' if known != 1 else ' is'} what came"
    nobody = f"of {unknown} nobody has said what {'they have' if unknown != 1 else 'it has'} to be"
    return ", ".join(filter(None, (same if known else "", nobody if unknown else "")))


def _damaged(entry: ModelEntry, path: Path, made: str, digest: str) -> Hal0Error:
    source = entry.source or {}
    again = f"hal0ctl model delete {entry.id}, then hal0ctl pull {source.get('path', entry.id)}"
    return Hal0Error(
        "model.checksum",
        f"cannot trust {entry.id}: {path} is not what came (sha256 {made}, not {digest})",
        details={"model": entry.id, "file": str(path), "sha256": made, "published": digest},
        hint=again if source else "Bring the file again.",
    )
