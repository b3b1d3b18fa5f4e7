"""The Kokoro provider: hal0's own speech server, with Kokoro inside, or F5-TTS for voices that are cloned."""

from typing import Final

from aiohttp import ClientSession

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.providers import own_server
from hal0.providers.base import (
    MODEL_DIR,
    NOBODY,
    Endpoint,
    Exit,
    Forward,
    Health,
    InferRequest,
    Launch,
    Provider,
    Trial,
    Verdict,
)
from hal0.providers.environment import environment
from hal0.providers.probing import PROBE_S, Probe, refused
from hal0.vocab import Capability, Device, ProviderName

# Architecture of a model -> the image that runs it. F5-TTS brings a runtime ten times as large, which is built when
# somebody swaps such a model in.
_IMAGES: Final = {"f5-tts": "f5-tts"}
_ARCHITECTURES: Final = frozenset({"kokoro", *_IMAGES})
_ON_VULKAN: Final = "WebGpuExecutionProvider"
_PATHS: Final = frozenset({"/audio/speech", "/audio/voices"})
_WORD: Final = "Hello."
_NO_VOICE: Final = b'"param": "ref_audio"'
_LOADED: Final = "INFO model loaded: "


class Kokoro:
    """It asks for the slot's secret on every path but /health."""

    name = ProviderName.KOKORO
    container_port = 8080
    capabilities = frozenset({Capability.TTS})
    devices: tuple[Device, ...] = (Device.CPU,)
    tags: frozenset[str] = frozenset()
    user: int | None = NOBODY
    at_once: int | None = None  # requests take turns, sentence by sentence
    shares_gpu = True
    stops_while_streaming = True  # on SIGTERM it finishes its streams, and waits at most 15 s for them

    def __init__(self, *, probe_s: float = PROBE_S) -> None:
        self._probe = Probe("speech server", probe_s)

    def loads(self, form: str, architecture: str) -> bool:
        return architecture in _ARCHITECTURES

    def image_key(self, device: Device, architecture: str = "") -> str:
        if device is Device.NPU:
            raise Hal0Error("config.invalid", "cannot run Kokoro on the NPU; set device to cpu", param="device")
        usual = "kokoro-vulkan" if device is Device.VULKAN else "kokoro"
        return _IMAGES.get(architecture, usual)

    def build_env(self, launch: Launch) -> dict[str, str]:
        # Named, it is used or the start fails; else the runtime falls back.
        own = {"ONNX_PROVIDER": _ON_VULKAN} if launch.device is Device.VULKAN else {}
        return environment(launch, own)

    def start_cmd(self, launch: Launch) -> list[str]:
        return own_server.start_cmd(launch, _target(launch))

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        return (Mount(launch.directory or launch.files[0].parent, _target(launch)),)

    async def health(self, endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
        return await self._probe.health(endpoint, launch_model, session)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
        """A word, spoken: sound must come out."""
        body = {"model": trial.model, "input": _WORD, "response_format": "pcm"}
        headers = {"Authorization": f"Bearer {endpoint.secret}"}
        async with session.post(f"{endpoint.base_url}/v1/audio/speech", json=body, headers=headers) as response:
            answer = await response.read()
        if response.status == 400 and _NO_VOICE in answer:
            return None  # F5-TTS without a clip: it has nothing to speak with until a request brings one
        if response.status != 200:
            return refused("/v1/audio/speech", response.status, answer)
        return None if any(answer) else "/v1/audio/speech answers 200, and silence"

    def infer(self, request: InferRequest) -> Forward:
        if request.path not in _PATHS:
            raise Hal0Error(
                "dispatch.capability_mismatch",
                f"cannot answer {request.path} with {request.model}: it speaks, and does nothing else",
                details={"path": request.path, "provider": self.name.value},
            )
        return Forward(f"/v1{request.path}")

    def classify(self, ended: Exit) -> Verdict:
        return own_server.classify(ended)

    def progress(self, line: str) -> float | None:
        return 1.0 if line.startswith(_LOADED) else None


def _target(launch: Launch) -> str:
    directory = launch.directory or launch.files[0].parent
    return f"{MODEL_DIR}/{directory.name}"


PROVIDER: Final[Provider] = Kokoro()
