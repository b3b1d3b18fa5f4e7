"""What a slot remembers: the values in `slots/<name>/state.json`, and their one schema.

All values are frozen; the actor holds the same values in memory that are on disk. Times are seconds since the epoch.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from hal0.lib import jsonio
from hal0.slots.need import Used
from hal0.vocab import By, Device, FailureClass, Phase, ProgressSource, ProviderName, Role, SlotName, SlotState, Want

SCHEMA: Final = 1
HISTORY: Final = 20  # loads remembered; enough for a stable median


@dataclass(frozen=True, slots=True)
class Desired:
    """What the operator (or whoever `by` names) wants."""

    want: Want
    model: str | None
    by: By
    at: float


@dataclass(frozen=True, slots=True)
class Container:
    """A container of this slot. `id` is None between the record and podman's answer to create.

    Its engine answers at `host`:`port`; only loopback ports are leased.
    """

    role: Role
    name: str
    generation: int
    model: str
    id: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    image_id: str | None = None
    spec_hash: str | None = None
    pid: int | None = None
    pid_start: int | None = None  # None where hal0 does not see its process

    def is_lost(self, pid: int, began: int | None) -> bool:
        """Podman tells this `pid`, hal0 has seen the process, and what it sees there now (`began`) is not that one."""
        return self.pid_start is not None and self.pid == pid and self.pid_start != began


class SwapStep(StrEnum):
    """Where a change of model stands: old out and new in, or (from `pulling` on) the new one beside the old."""

    FORWARD = "forward"
    ROLLBACK = "rollback"
    PULLING = "pulling"
    WAITING = "waiting"  # for room beside the old container
    STARTING = "starting"
    WARMING = "warming"
    UNDOING = "undoing"  # the new one failed: why is read, then it is removed


@dataclass(frozen=True, slots=True)
class Swap:
    """A change of model under way."""

    from_model: str | None
    to_model: str
    step: SwapStep = SwapStep.FORWARD

    @property
    def overlaps(self) -> bool:
        """The old container serves meanwhile."""
        return self.step not in (SwapStep.FORWARD, SwapStep.ROLLBACK)


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model is started differently than configured: by which of the slot's `fallbacks` (from 1), why, since when."""

    number: int
    why: str
    at: float
    model: str | None = None  # None: written before models were told apart; whichever the slot has

    def is_of(self, model: str | None) -> bool:
        return self.model in (None, model)


@dataclass(frozen=True, slots=True)
class Progress:
    phase: str
    fraction: float | None
    message: str
    source: ProgressSource | None = None  # of the fraction, while a model loads


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended. `settled` is False while exit code and log are still being read."""

    failure_class: Annotated[FailureClass, Field(alias="class")]
    code: str
    message: str
    at: float
    exit_code: int | None = None
    signal: str | None = None
    oom: bool = False
    evidence: str | None = None  # what the verdict on memory rests on
    model: str | None = None
    spec_hash: str | None = None  # of the container that failed
    line: str | None = None  # of its log, that the verdict rests on
    log_tail: tuple[str, ...] = ()
    settled: bool = True
    curable: bool = True  # another image, device or context might do better
    details: dict[str, Any] = field(default_factory=dict)  # figures that belong to the message, ready for JSON


@dataclass(frozen=True, slots=True)
class Attempts:
    """The series of failed attempts: how many, since when, and when the next one is due (None: never by itself)."""

    count: int = 0
    window_start: float | None = None
    next_at: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One finished load: how long each part took, in seconds.

    `create_s` is what podman's create took of `start_s`, with the room that was made for it; `load_s` is what the
    engine took of `warm_s` to say that it is ready. None where nobody told them apart.
    """

    model: str
    at: float
    start_s: float
    warm_s: float
    create_s: float | None = None
    load_s: float | None = None

    @property
    def total_s(self) -> float:
        return self.start_s + self.warm_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRecord:
    """`generation` is the highest ever used: names are never reused, also after everything was removed."""

    schema: int
    name: SlotName
    state: SlotState
    phase: Phase
    since: float
    desired: Desired
    model: str | None
    provider: ProviderName
    device: Device
    generation: int
    containers: tuple[Container, ...]
    swap: Swap | None
    progress: Progress | None
    failure: Failure | None
    attempts: Attempts
    load_history: tuple[Load, ...]
    last_used: float | None
    updated_at: float
    memory_history: tuple[Used, ...] = ()
    fallback: Fallback | None = None


class DamagedRecordError(ValueError):
    """state.json cannot be read; it is moved aside and rebuilt from what podman knows."""


class NewerRecordError(ValueError):
    """state.json was written by a newer hal0: refuse to start rather than lose what it says."""


_ADAPTER: Final = TypeAdapter(SlotRecord)


def dump(record: SlotRecord) -> bytes:
    return _ADAPTER.dump_json(record, indent=2, by_alias=True) + b"\n"


def load(data: bytes) -> SlotRecord:
    """Parse and check a record; raises DamagedRecordError or NewerRecordError."""
    try:
        raw: Any = jsonio.loads(data)
    except jsonio.JSONDecodeError as err:
        raise DamagedRecordError(f"not JSON: {err}") from err
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int):
        raise DamagedRecordError("no schema number")
    if schema > SCHEMA:
        raise NewerRecordError(f"schema {schema}, this hal0 knows {SCHEMA}")
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedRecordError(f"{where}: {first['msg']}") from err
