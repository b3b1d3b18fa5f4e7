"""A provider whose health comes from the fake engine, so that a whole slot runs on virtual time."""

import asyncio
import re
from typing import TYPE_CHECKING, Final

from hal0.engine.base import LABEL_PREFIX, Mount
from hal0.errors import Hal0Error
from hal0.providers.base import (
    MODEL_DIR,
    Endpoint,
    Exit,
    Forward,
    Health,
    HealthState,
    InferRequest,
    Launch,
    Trial,
    Verdict,
)
from hal0.vocab import Capability, Device, FailureClass, ProviderName
from tests.fakes.engine import FakeEngine
from tests.fakes.program import FakeContainer

if TYPE_CHECKING:
    from aiohttp import ClientSession

PROBE_S: Final = 0.001  # what a health request to a loopback server takes
PROBE_LIMIT_S: Final = 2.0  # the contract's deadline

# (text in the log, class, code), first hit wins; the words are the fakes' own.
_REASONS: Final = (
    ("cannot load model", FailureClass.PERMANENT, "slot.load_failed"),
    ("unknown flag", FailureClass.PERMANENT, "slot.load_failed"),
    ("no such device", FailureClass.PERMANENT, "device.permission"),
)


class FakeHealth:
    """A `hal0.providers.base.Provider`; `probes` and `trials` count how often it was asked."""

    name = ProviderName.LLAMACPP
    container_port = 8080
    capabilities = frozenset({Capability.CHAT, Capability.COMPLETION, Capability.EMBED})
    devices: tuple[Device, ...] = (Device.VULKAN, Device.CPU)
    tags: frozenset[str] = frozenset()
    user: int | None = None
    at_once: int | None = None
    shares_gpu = True
    stops_while_streaming = False

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.probes = 0
        self.trials = 0

    def loads(self, form: str, architecture: str) -> bool:
        return form == "gguf"

    def image_key(self, device: Device, architecture: str = "") -> str:
        return "cpu" if device is Device.AUTO else device.value

    def build_env(self, launch: Launch) -> dict[str, str]:
        return {**launch.env, "HAL0_MODEL": launch.model}

    def start_cmd(self, launch: Launch) -> list[str]:
        model = launch.files[0].name if launch.files else launch.model
        return ["--model", f"{MODEL_DIR}/{model}", "--port", str(launch.port), *launch.extra_args]

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        return tuple(Mount(file, f"{MODEL_DIR}/{file.name}") for file in launch.files)

    async def health(self, endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
        """What the program in the container behind this port would say by now; `session` is not used."""
        self.probes += 1
        await asyncio.sleep(PROBE_S)
        by_port = self._engine.at_port(endpoint.port)
        container = by_port or next((c for c in self._engine.running if c.ip == endpoint.host), None)
        if container is None or container.age_s < container.program.listens_after_s:
            return Health(HealthState.NOT_LISTENING, "connection refused")
        if container.program.hangs or (by_port is not None and container.program.port_lost):
            await asyncio.sleep(PROBE_LIMIT_S)
            return Health(HealthState.SILENT, f"no answer within {PROBE_LIMIT_S:g} s")
        return _answer(container, launch_model)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: "ClientSession") -> str | None:
        self.trials += 1
        await asyncio.sleep(PROBE_S)
        container = self._engine.at_port(endpoint.port)
        if container is None:
            raise ConnectionRefusedError
        program = container.program
        if program.hangs_at_work:
            await asyncio.get_running_loop().create_future()
        if program.dies_of_work is not None:
            container.end(program.dies_of_work)
            raise ConnectionResetError
        return program.unable

    def infer(self, request: InferRequest) -> Forward:
        if request.capability not in self.capabilities:
            raise Hal0Error("dispatch.capability_mismatch", f"cannot serve {request.path} here: use another model")
        return Forward("/v1" + request.path)

    def classify(self, ended: Exit) -> Verdict:
        last = ended.log_tail[-1] if ended.log_tail else f"exit code {ended.exit_code}"
        for words, failure_class, code in _REASONS:
            if line := next((line for line in ended.log_tail if words in line), None):
                return Verdict(failure_class, code, line, line, curable="cannot load model" not in line)
        if ended.exit_code == 132:
            return Verdict(FailureClass.PERMANENT, "slot.load_failed", "illegal instruction: this CPU is too old")
        if ended.oom_killed or (ended.exit_code == 137 and not ended.wanted):
            return Verdict(FailureClass.TRANSIENT, "slot.exited", "killed, probably out of memory")
        return Verdict(FailureClass.TRANSIENT, "slot.exited" if ended.warmed else "slot.load_failed", last, last)

    def progress(self, line: str) -> float | None:
        percent = re.search(r"(\d+)%", line)
        return int(percent[1]) / 100 if percent else None


class FakePainter(FakeHealth):
    """One that a GPU may have to be given as a whole."""

    shares_gpu = False


def _answer(container: FakeContainer, launch_model: str) -> Health:
    program, age = container.program, container.age_s
    if program.broken is not None:
        return Health(HealthState.BROKEN, program.broken)
    model = container.spec.labels.get(LABEL_PREFIX + "model", launch_model)
    if model != launch_model:
        return Health(HealthState.BROKEN, f"it serves {model}, not {launch_model}")
    if program.ready_after_s is None:
        return Health(HealthState.LOADING, "503 loading model")
    if age < program.ready_after_s:
        fraction = age / program.ready_after_s if program.tells_health else None
        return Health(HealthState.LOADING, "503 loading model", fraction)
    return Health(HealthState.READY, f"200, lists {launch_model}")
