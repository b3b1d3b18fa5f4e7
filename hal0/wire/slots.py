"""A slot as seen over HTTP."""

from typing import Any

from pydantic import ConfigDict, Field

from hal0.vocab import (
    By,
    Capability,
    Device,
    FailureClass,
    ProgressSource,
    ProviderName,
    Role,
    SlotState,
    SwapMode,
    Want,
)
from hal0.wire.base import View


class ServesView(View):
    """One model a slot answers for, with one capability; FLM has several entries."""

    model: str
    capability: Capability


class DesiredView(View):
    want: Want
    model: str | None
    by: By
    at: float


class ContainerView(View):
    role: Role
    name: str
    id: str | None
    generation: int
    port: int | None
    pid: int | None
    image_id: str | None
    spec_hash: str | None
    model: str | None


class ProgressView(View):
    """What a transitional slot is doing now. `fraction` (0-1) is None when nobody knows."""

    phase: str
    fraction: float | None
    message: str
    source: ProgressSource | None = None  # of the fraction, while a model loads


class FailureView(View):
    failure_class: FailureClass
    code: str
    message: str
    exit_code: int | None
    signal: str | None
    signal_words: str | None = None  # what it means
    oom: bool
    evidence: str | None = None  # what the verdict on memory rests on
    model: str | None = None
    spec_hash: str | None = None  # of the container that failed
    line: str | None = None  # of its log, that the verdict rests on
    log_tail: list[str]
    at: float
    attempt: int
    next_attempt_at: float | None


class FallbackView(View):
    """The slot is started by one of its fallbacks, `number` of `of`; `why` is what failed before."""

    number: int
    of: int
    text: str
    why: str
    at: float


class SwapView(View):
    from_model: str | None
    to_model: str
    step: str


class TermView(View):
    name: str
    bytes: int


class MemoryView(View):
    """What was promised to the load, as the sum of `terms`; and what the model's figures said beside what it took.

    `actual_bytes` is the most that this load has taken of `pool` so far; None where that cannot be told: then all of
    this is an estimate. `places` say where a load on a GPU has taken how much, pool by pool; empty without one.
    """

    need_bytes: int
    pool: str
    terms: list[TermView]
    predicted_bytes: int
    actual_bytes: int | None
    places: list[TermView] = Field(default_factory=list)


class LiveView(View):
    """What the engine told of the work under way, at `at`; null: it does not. `deferred` wait inside the engine."""

    tokens_per_second: float | None
    prompt_tokens_per_second: float | None
    deferred: int | None
    context_used: int | None  # tokens, of all requests
    at: float  # seconds since the epoch: one in the middle of a long prompt may have nothing new to tell for seconds


class LoadView(View):
    """One finished load, in seconds: until the container was there (and room for it), until it ran, until the engine
    said that it was ready, until hal0 had made sure. null where nobody told the parts of it apart.
    """

    model: str
    at: float
    create_s: float | None
    start_s: float | None
    load_s: float | None
    ready_s: float | None
    total_s: float


class SlotMetricsView(View):
    """`requests` that ended since hal0 started, by status; `engine` is what the engine says of itself."""

    slot: str
    in_flight: int
    queued: int
    requests: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    live: LiveView | None
    engine: dict[str, float]


class SlotView(View):
    """The whole of a slot; what `/api/slots`, the events and the dashboard show."""

    name: str
    builtin: bool
    state: SlotState
    since: float
    message: str  # one sentence for people: what it is doing, or why it is not
    desired: DesiredView
    provider: ProviderName
    device: Device
    model: str | None
    seed_model: str | None  # the install-time seed of the configuration
    demo: bool
    serves: list[ServesView]
    aliases: list[str]
    capabilities: list[Capability]
    port: int | None
    url: str | None
    containers: list[ContainerView]
    context_size: int | None
    memory_bytes: int | None = None  # of the current container, when it was measured last
    memory: MemoryView | None = None  # of the load under way or the current container; None without either
    pinned: bool
    priority: int
    in_flight: int
    queued: int
    max_inflight: int | None
    swap_mode: SwapMode
    swap: SwapView | None
    fallback: FallbackView | None = None
    progress: ProgressView | None
    failure: FailureView | None
    stale: str | None  # why the running container differs from the configuration
    unsaved: bool  # memory is ahead of the record on disk
    ready_at: float | None
    last_used: float | None
    idle_timeout_s: float
    expected_load_s: float | None  # from this slot's own history
    remaining_s: float | None  # of the load under way, estimated
    last_load: LoadView | None = None
    live: LiveView | None = None  # only where one slot or all are asked for, and only while it answers somebody
    notes: list[str]  # what the host refused, drift between seed and live model, ...


class SlotsView(View):
    items: list[SlotView]


class CreateRequest(View):
    """Beside the name: the fields of a `[slots.<name>]` table, which the configuration itself checks. null: unset."""

    model_config = ConfigDict(extra="allow")

    name: str


class DraftView(View):
    """The file that creating the slot would write."""

    name: str
    file: str
    text: str


class DeletedView(View):
    """The slot is gone: its container, its state, and its configuration."""

    name: str


class LoadRequest(View):
    """Body of load and restart; every member may be left out."""

    model: str | None = None


class SwapRequest(View):
    model: str


class UnloadRequest(View):
    drain_s: float | None = Field(None, ge=0)


class LogLineView(View):
    stream: str
    text: str
    at: float | None


class LogsView(View):
    items: list[LogLineView]


JsonObject = dict[str, Any]
