"""The service itself as seen over HTTP: health, status, images, checks."""

from enum import StrEnum

from hal0.wire.base import View


class CheckState(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"  # could not look: never counts as passed


class CheckView(View):
    name: str
    state: CheckState
    message: str
    fix: str | None


class EngineView(View):
    reachable: bool
    version: str | None
    socket: str | None
    own_service: bool  # hal0 started `podman system service` itself


class HealthView(View):
    """`status` is ok, degraded (something needs attention) or starting."""

    status: str
    version: str
    instance: str
    pid: int
    uptime_s: float
    engine: EngineView
    slots: dict[str, str]
    checks: list[CheckView]


class HealthSummaryView(View):
    """What anybody may know: `status` as above, and the state of each slot."""

    status: str
    version: str
    slots: dict[str, str]


class GpuView(View):
    """A GPU that images and language models share: `images` is its image slot.

    `mode` is llm, images, or what leads from one to the other: clearing, starting, returning, restoring. `until`: when
    the models of `comes_back` return if no more images are made (seconds since the epoch; None: nobody knows).
    """

    images: str
    mode: str
    comes_back: list[str]
    pinned: bool
    until: float | None


class StatusView(View):
    version: str
    instance: str
    pid: int
    url: str
    socket: str
    uptime_s: float
    in_flight: int
    slots: dict[str, int]  # how many slots are in each state
    memory_total_bytes: int
    memory_available_bytes: int
    gpus: list[GpuView]
    attention: list[str]
    config_file: str
    state_dir: str


class ImageView(View):
    key: str
    ref: str
    digest: str | None
    local_id: str | None
    local_tag: str | None
    size_bytes: int | None
    source: str  # local, pull, build or none
    devices: list[str]
    buildable: bool
    pullable: bool
    on_request: bool = False  # large: built only by its name, or for a model that needs it
    note: str | None


class ImagesView(View):
    items: list[ImageView]


class RemovedImageView(View):
    id: str
    size_bytes: int


class KeptImageView(View):
    id: str
    reason: str  # a container uses it


class PrunedView(View):
    removed: list[RemovedImageView]
    kept: list[KeptImageView]


class ImageRequest(View):
    """Body of POST /api/images/{key}/{build,pull}."""

    force: bool = False
