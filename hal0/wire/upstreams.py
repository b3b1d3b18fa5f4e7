"""Servers elsewhere as the operator sees them; the keys themselves are never shown."""

from enum import StrEnum

from pydantic import ConfigDict

from hal0.vocab import Capability
from hal0.wire.base import View


class UpstreamState(StrEnum):
    UNKNOWN = "unknown"  # nobody has asked it yet
    ONLINE = "online"
    DEGRADED = "degraded"  # it answers, not always or not everything
    OFFLINE = "offline"
    KEY_MISSING = "key_missing"  # hal0 has none to attach
    KEY_REJECTED = "key_rejected"
    DISABLED = "disabled"


class AuthView(View):
    """`present`: a key is there to be attached. `env` is the variable it comes from, None for one in the file."""

    style: str
    header: str | None
    env: str | None
    present: bool


class CircuitView(View):
    """`retry_at`: when the next request may try, None while all may."""

    state: str
    failures: int
    retry_at: float | None


class UpstreamView(View):
    """`only`: the models that it is restricted to, empty for all. `latency_ms` is of the last model list.

    `requests` and `failures` count since hal0 started or the configuration of this upstream changed.
    """

    name: str
    base_url: str
    kind: str
    enabled: bool
    state: UpstreamState
    message: str  # one sentence for people
    auth: AuthView
    prefix: str | None
    only: list[str]
    priority: int
    weight: int
    models: int | None  # how many it offers here; None while that is not known
    listed_at: float | None
    latency_ms: float | None
    circuit: CircuitView
    in_flight: int
    requests: int
    failures: int


class PresetView(View):
    """What `preset` in a new upstream fills in."""

    name: str
    base_url: str | None
    kind: str
    env: str | None


class UpstreamsView(View):
    items: list[UpstreamView]
    presets: list[PresetView]


class UpstreamModelView(View):
    """`id` is what requests say to hal0, `theirs` what the upstream hears."""

    id: str
    theirs: str
    context_length: int | None
    capabilities: list[Capability]


class UpstreamModelsView(View):
    items: list[UpstreamModelView]
    listed_at: float | None


class UpstreamTestView(View):
    """`status` is that of its answer, None where none came; `code` and `message` say what is wrong."""

    name: str
    ok: bool
    status: int | None
    latency_ms: float | None
    models: int | None
    code: str | None
    message: str


class UpstreamRequest(View):
    """A new upstream: `name`, perhaps a `preset`, perhaps its `key` or the environment variable that holds it, and
    the fields of an `[upstreams.<name>]` table, which the configuration itself checks. null: unset."""

    model_config = ConfigDict(extra="allow")

    name: str
    preset: str | None = None
    key: str | None = None
    key_env: str | None = None


class UpstreamChange(View):
    """Fields of the table to set; null takes one away."""

    model_config = ConfigDict(extra="allow")


class UpstreamGoneView(View):
    name: str
