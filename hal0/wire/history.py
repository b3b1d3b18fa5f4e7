"""What happened, as seen over HTTP: requests and why they went where they went, and what became of hal0 itself."""

from typing import Any

from pydantic import Field

from hal0.wire.base import ListView, View


class TriedView(View):
    """A rule that was tried and the fact that decided it. Rules that are not there were not reached."""

    rule: str
    hit: bool
    fact: str


class DecisionView(View):
    """One request. Times are milliseconds, None where it did not come so far.

    `target` is the slot or upstream that was to answer, `status` the true outcome (499: the client left), `held_ms` the
    wait at the slot's gate, `turn_ms` the part of it in which other slots had the memory. `seq` is its place in the
    history, None while that is not written; `left_out` how many before it the event stream did not show.
    """

    request_id: str
    at: float
    key_id: str | None
    method: str
    path: str
    asked_model: str | None
    target: str | None
    model: str | None
    rule: str | None
    tried: list[TriedView]
    candidates: list[str]
    stream: bool
    status: int
    code: str | None
    queue_position: int | None
    held_ms: float
    turn_ms: float
    connect_ms: float | None
    first_byte_ms: float | None
    total_ms: float
    overhead_ms: float | None
    bytes_out: int
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_per_second: float | None
    summary: str
    seq: int | None = None
    left_out: int = 0


class DecisionsView(ListView):
    """Newest first. `next` as `before` asks for what is older. `problem`: why the newest may be missing."""

    items: list[DecisionView]
    next: str | None
    problem: str | None


class ExplainRequest(View):
    """Body of POST /api/decisions/explain: what would be asked. `slots`: as a key limited to these."""

    path: str = Field("/v1/chat/completions", max_length=256)
    model: str | None = Field(None, max_length=256)
    slots: list[str] | None = Field(None, min_length=1)


class ExplainView(View):
    """Where it would go now; nothing was sent. `target` is a slot, `upstreams` those that might be asked.

    `state` is the slot's. `error` is what the client would get instead, the error member of the envelope.
    """

    path: str
    asked_model: str | None
    target: str | None
    upstreams: list[str]
    model: str | None
    rule: str | None
    tried: list[TriedView]
    candidates: list[str]
    state: str | None
    error: dict[str, Any] | None
    summary: str


class ActivityView(View):
    """`kind` is what it is about and what happened, such as slot.ready; `by` who asked for it, where somebody did."""

    id: int
    at: float
    kind: str
    subject: str
    message: str
    by: str | None


class ActivitiesView(ListView):
    """Newest first, as DecisionsView."""

    items: list[ActivityView]
    next: str | None
    problem: str | None
