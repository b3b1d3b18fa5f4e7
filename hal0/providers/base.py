"""The provider contract: what hal0 must know about an inference server to run it in a slot.

A provider is stateless: a class with the four methods of the seeds (`build_env`, `start_cmd`, `health`, `infer`)
and two pure companions (`mounts`, `classify`). The slot lifecycle never asks which provider it is talking to. A new one
is a module of this package with its `PROVIDER`, and a line in `vocab.ProviderName`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.vocab import Capability, Device, FailureClass, ProviderName, SlotName

if TYPE_CHECKING:
    from aiohttp import ClientSession

# Where things are inside a container.
MODEL_DIR = "/models"
SCRATCH = "/tmp"  # noqa: S108  where alone may be written
NOBODY = 65534  # whom engines run as, unless only another user may read the model's files
SECRET_FILE = "/run/hal0/secret"  # noqa: S105  a path, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start of one slot: all a provider may base its command on.

    `files` are the model's files as hal0 sees them (the first one is the model itself); inside the container each
    one is at MODEL_DIR/<name>. A model that is a folder has it in `directory`, all `files` in it or below; inside the
    container it is at MODEL_DIR/<name>, read-only.
    `context_size` is in tokens, already resolved (field, else the model's own, capped).
    """

    slot: SlotName
    model: str
    files: tuple[Path, ...]
    mmproj: Path | None
    capabilities: frozenset[Capability]
    device: Device
    gpu_index: int | None
    context_size: int
    parallel: int | None
    extra_args: tuple[str, ...]
    env: Mapping[str, str]
    port: int  # inside the container
    demo: bool = False
    directory: Path | None = None
    architecture: str = ""  # of the model, as its registry entry has it


class HealthState(StrEnum):
    NOT_LISTENING = "not_listening"  # the connection is refused: normal early, a lost port later
    SILENT = "silent"  # it can be reached, and does not answer in time: busy, or stuck
    LOADING = "loading"  # it answers, and says that it is busy loading
    READY = "ready"  # it answers, and lists the model it was started with
    BROKEN = "broken"  # it answers, and can never become ready (no model, another model, wrong secret)


@dataclass(frozen=True, slots=True)
class Health:
    """One probe's answer and what it rests on; `evidence` is one line for people."""

    state: HealthState
    evidence: str
    fraction: float | None = None  # of the load, where the engine tells it


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a slot's engine answers, and what it must be shown. `secret` never appears in a repr."""

    host: str
    port: int
    secret: str = field(repr=False)

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Trial:
    """What a verification may base its piece of work on: the model, what it can do, and how the engine was started."""

    model: str
    capabilities: frozenset[Capability]
    extra_args: tuple[str, ...] = ()


class AnswerMode(StrEnum):
    RAW = "raw"  # bytes pass untouched
    INSPECT = "inspect"  # the provider's `convert` may replace a complete non-streamed JSON answer


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on to the engine.

    `path` is the engine's own path with the query string left to the caller. `edits` replaces or adds top-level
    members of a JSON body, or fields of a form, in place; None forwards it byte for byte. `revise(request)` gets the
    JSON body and returns further edits, for members that have to be read to be changed. `convert(request, answer)`
    gets the request and the JSON body of a complete 200 answer when `answer` is INSPECT, and returns the body to send,
    or another answer. Of the request it gets those members, or text fields of a form, that `fields` names; None: all of
    a JSON body, which may be large. `check(fields)` has got those of a form before anything is sent: it raises for what
    the engine could only work at in vain. `substitute` changes an answer while it passes. `explain(answer)` gets the
    body of a 500, and returns the error that is the client's or hal0's rather than the engine's; None: the engine's own
    words stand.
    """

    path: str
    edits: Mapping[str, Any] | None = None
    revise: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    answer: AnswerMode = AnswerMode.RAW
    convert: Callable[[Mapping[str, Any], bytes], "bytes | Answer"] | None = None
    fields: tuple[str, ...] | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None
    substitute: "Substitute | None" = None
    explain: Callable[[bytes], Hal0Error | None] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer in the place of the engine's."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Substitute:
    """Wherever an answer says `needle`, however it is cut, the client reads what `put` gave for this answer."""

    needle: bytes
    put: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form; `filename` is None for a plain field."""

    name: str
    filename: str | None
    data: bytes = field(repr=False)


class Exchange(Protocol):
    """A request that a provider answers itself (Serve): the parsed request in, an answer out.

    The answer is either one `send`, or a `start` and as many `write` as there are; it ends when the handler returns.
    Sending raises ConnectionError when the client has left, which also cancels the handler; so does hal0 when it has
    to end the request. What the engine still works on is the handler's to stop before it lets go.
    """

    @property
    def path(self) -> str: ...

    @property
    def at(self) -> float:
        """When the request came, in seconds since the epoch."""
        ...

    @property
    def size(self) -> int:
        """Of the body, in bytes."""
        ...

    @property
    def deadline_s(self) -> float:
        """How long the slot's configuration lets an engine work without a sign that it goes on, in seconds."""
        ...

    async def read_body(self) -> bytes: ...

    async def read_form(self) -> Sequence[Part] | None:
        """The parts of the body; None when it is no form."""
        ...

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None: ...

    async def start(self, status: int, headers: Mapping[str, str]) -> None: ...

    async def write(self, data: bytes) -> None: ...

    async def keep(self, picture: bytes, content_type: str) -> str:
        """An address of hal0's that answers with these bytes for an hour. Raises state.write_failed."""
        ...


@dataclass(frozen=True, slots=True)
class Serve:
    """The provider translates: it talks to the engine by itself and writes the answer to the exchange."""

    handler: Callable[[Exchange, Endpoint], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What `infer` may look at: the path below `/v1` (such as `/chat/completions`) and the capability it needs (None:
    any).

    `encoding_format` is the request's own member (embeddings), None when it has none. `demo`: the model is the
    demonstration model.
    """

    path: str
    capability: Capability | None
    model: str
    stream: bool
    encoding_format: str | None = None
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a start or a run ended: class, error code, one sentence, and the log line that it rests on.

    `curable`: another image, device or context might do better; False when the model itself is at fault.
    """

    failure_class: FailureClass
    code: str
    message: str
    line: str | None = None
    curable: bool = True


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. `wanted` is hal0's own knowledge: it asked for the stop."""

    exit_code: int | None
    oom_killed: bool
    wanted: bool
    warmed: bool  # it had been ready before it ended
    log_tail: tuple[str, ...]


class Provider(Protocol):
    name: ProviderName
    container_port: int  # where the engine listens inside its container
    capabilities: frozenset[Capability]  # what this provider can serve at all, whatever the model
    devices: tuple[Device, ...]  # best first: what `auto` means is the first of these that is here, else the last
    tags: frozenset[
        str
    ]  # models that only it knows, by names of its own (FLM's list): requests for them are its slot's
    user: int | None  # whom its processes are inside, where the model's files are open to all; None: the image's choice
    stops_while_streaming: bool  # False: its streams must be closed before SIGTERM
    at_once: int | None  # requests that it can work on at the same time; None: its own affair
    shares_gpu: bool  # False: a GPU that does not hold it beside the others is its or theirs, as a whole

    def loads(self, form: str, architecture: str) -> bool:
        """Whether its engine loads models of this format and architecture, as registry entries have them. Pure."""
        ...

    def image_key(self, device: Device, architecture: str = "") -> str:
        """Key in images/manifest.json for this device and model architecture. Called before every start."""
        ...

    def build_env(self, launch: Launch) -> dict[str, str]:
        """The container's environment; no secrets: it is written to the slot's `env` file for people to read."""
        ...

    def start_cmd(self, launch: Launch) -> list[str]:
        """The argv inside the image (after its entry point). Pure; the same launch gives the same argv."""
        ...

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        """The model's own files or directories, read-only. The secret file is added by the caller."""
        ...

    async def health(self, endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
        """A cheap probe, at most 2 s; never inference. Never raises: what went wrong is in the answer."""
        ...

    async def verify(self, endpoint: Endpoint, trial: Trial, session: "ClientSession") -> str | None:
        """Have the engine do its smallest piece of real work, once: what was wrong with it, None when nothing was.

        The caller sets the deadline. Raises ClientError or OSError when the connection breaks.
        """
        ...

    def infer(self, request: InferRequest) -> Forward | Serve:
        """How a dispatched request is sent. Pure. Raises dispatch.capability_mismatch for a path it has not."""
        ...

    def classify(self, ended: Exit) -> Verdict:
        """The failure class of an end, from exit code and log. Pure; called once per end."""
        ...

    def progress(self, line: str) -> float | None:
        """Fraction 0-1 of the load that a log line tells, or None. Pure; called for each line while warming."""
        ...
