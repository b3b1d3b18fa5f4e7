"""The Moonshine provider: speech to text on the CPU, by hal0's own server around the library (images/moonshine)."""

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import ClientSession, FormData

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.lib import jsonio
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
from hal0.providers.probing import Probe, refused
from hal0.vocab import Capability, Device, ProviderName

_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {path: f"/v1{path}" for path in ("/audio/transcriptions", "/audio/translations")}
)
_TRIED: Final = _PATHS["/audio/transcriptions"]
_RATE: Final = 16_000


class Moonshine:
    """One folder of ONNX graphs; the library's runtime knows no other device than the CPU."""

    name = ProviderName.MOONSHINE
    container_port = 8080
    capabilities = frozenset({Capability.STT})
    devices: tuple[Device, ...] = (Device.CPU,)
    tags: frozenset[str] = frozenset()
    user: int | None = NOBODY
    stops_while_streaming = True
    at_once: int | None = 8  # one works, piece by piece in turn; the others' files have to fit beside it
    shares_gpu = True

    def __init__(self, probe: Probe | None = None) -> None:
        self._probe = probe or Probe("Moonshine server")

    def loads(self, form: str, architecture: str) -> bool:
        return architecture == "moonshine"

    def image_key(self, device: Device, architecture: str = "") -> str:
        if device not in {Device.CPU, Device.AUTO}:
            raise Hal0Error(
                "config.invalid",
                f"cannot run Moonshine on {device}: it has the CPU only; set device to cpu",
                param="device",
            )
        return self.name.value

    def build_env(self, launch: Launch) -> dict[str, str]:
        return environment(launch)

    def start_cmd(self, launch: Launch) -> list[str]:
        return own_server.start_cmd(launch, _folder(launch))

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        # File by file: in other programs' stores a model's folder is full of links to somewhere else.
        return tuple(Mount(file, f"{_folder(launch)}/{file.name}") for file in launch.files)

    async def health(self, endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
        return await self._probe.health(endpoint, launch_model, session)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
        form = FormData({"model": trial.model})
        form.add_field("file", _hum(), filename="hum.wav", content_type="audio/wav")
        headers = {"Authorization": f"Bearer {endpoint.secret}"}
        async with session.post(f"{endpoint.base_url}{_TRIED}", data=form, headers=headers) as response:
            answer = await response.read()
            if response.status != 200:
                return refused(_TRIED, response.status, answer)
        return None if _worked(answer) else f"{_TRIED} answers 200, and nothing that it was asked for"

    def infer(self, request: InferRequest) -> Forward:
        path = _PATHS.get(request.path)
        if path is None:
            raise Hal0Error(
                "dispatch.capability_mismatch",
                f"cannot answer {request.path} with {request.model}: Moonshine has no such path",
                details={"path": request.path, "provider": self.name.value},
            )
        return Forward(path)

    def classify(self, ended: Exit) -> Verdict:
        return own_server.classify(ended)

    def progress(self, line: str) -> float | None:
        return 1.0 if "model loaded: " in line else None


def _folder(launch: Launch) -> str:
    return f"{MODEL_DIR}/{launch.model}"


def _hum() -> bytes:
    """A second of a low tone as WAV: there is no word in it, but the whole way to a word is taken."""
    import wave  # once per verified start

    kept = io.BytesIO()
    with wave.open(kept, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        period = [(n - 64) * 64 for n in (*range(128), *range(128, 0, -1))]
        samples = (period * (_RATE // len(period) + 1))[:_RATE]
        out.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
    return kept.getvalue()


def _worked(answer: bytes) -> bool:
    try:
        body = jsonio.loads(answer)
    except jsonio.JSONDecodeError:
        return False
    return isinstance(body, dict) and isinstance(body.get("text"), str)


PROVIDER: Final[Provider] = Moonshine()
