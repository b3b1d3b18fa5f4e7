"""Downloads of models as seen over HTTP: a pull has the id of its job."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from hal0.vocab import Capability
from hal0.wire.base import View
from hal0.wire.jobs import JobPace
from hal0.wire.models import ModelProblemView


class PullState(StrEnum):
    QUEUED = "queued"  # others are before it
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"  # what has come is kept, and may be gone on with


class PullRequest(View):
    """`model` is an id of the catalog, OWNER/REPOSITORY[:QUANTISATION], a file of it, an address, a path, or the id of
    one that was here before.

    `more` are further files of the same model, named alike: its other parts, its projector, the encoders of an image
    model in several files. `id` is what it shall be called here, `sha256` what an address's file has to be; the
    address itself may end in #sha256=DIGEST.

    `link`: a path's file is shared instead of copied. `rate_limit` is bytes a second of this download, below the limit
    of all together. `task` is what it is for, where its file leaves that open.
    """

    model: str
    more: list[str] = Field([], max_length=64)
    id: str | None = None
    sha256: str | None = None
    link: bool = False
    rate_limit: int | None = Field(None, ge=1)
    task: Capability | None = None


class LookRequest(View):
    """`path` is a folder of hal0's own machine."""

    path: str


class LookedView(View):
    """A model in a folder. `files` are what a pull of it names; `here`: hal0 has it, by this id or from this place."""

    id: str
    files: list[str] = Field(min_length=1)
    size_bytes: int
    capabilities: list[Capability]
    here: bool


class LooksView(View):
    """`problems` are files that look like models and cannot be used."""

    items: list[LookedView]
    problems: list[ModelProblemView]


class PullFileView(View):
    name: str
    size_bytes: int | None
    sha256: str | None


class PullView(View):
    """`message` is what it does now. `error` is the error member of the error envelope, None unless it failed."""

    id: str
    model: str
    state: PullState
    source: dict[str, str]
    license: str | None
    files: list[PullFileView]
    pace: JobPace
    message: str
    error: dict[str, Any] | None
    started_at: float


class PullsView(View):
    """Those that have not come to their end; the others are among the jobs."""

    items: list[PullView]
