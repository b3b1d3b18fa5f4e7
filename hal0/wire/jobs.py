"""Long-running work as seen over HTTP."""

from enum import StrEnum
from typing import Any

from hal0.vocab import By, ProgressSource
from hal0.wire.base import View


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # a later wish of the operator replaced it
    INTERRUPTED = "interrupted"  # hal0 stopped while it ran


class JobKind(StrEnum):
    LOAD = "load"
    UNLOAD = "unload"
    RESTART = "restart"
    SWAP = "swap"
    IMAGE_BUILD = "image.build"
    IMAGE_PULL = "image.pull"
    MODEL_PULL = "model.pull"
    MODEL_VERIFY = "model.verify"
    CAPABILITY_ENABLE = "capability.enable"
    CAPABILITY_DISABLE = "capability.disable"
    SETUP = "machine.setup"


class JobPace(View):
    """How far a download is; None for what nobody knows yet."""

    done_bytes: int
    total_bytes: int | None
    bytes_per_s: float | None = None
    eta_s: float | None = None


class JobProgress(View):
    fraction: float | None
    message: str
    source: ProgressSource | None = None  # of the fraction, while a model loads
    pace: JobPace | None = None


class JobView(View):
    """`error` is the error member of the error envelope, None unless the job failed."""

    id: str
    kind: JobKind
    target: str
    state: JobState
    progress: JobProgress | None
    error: dict[str, Any] | None
    note: str | None
    by: By
    started_at: float
    ended_at: float | None


class JobsView(View):
    items: list[JobView]
