"""The ComfyUI provider: how the engine is started, probed and understood; requests are served by `served`."""

import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, assert_never

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import (
    NOBODY,
    Endpoint,
    Exchange,
    Exit,
    Health,
    HealthState,
    InferRequest,
    Launch,
    Provider,
    Serve,
    Trial,
    Verdict,
)
from hal0.providers.comfyui import failures
from hal0.providers.comfyui.weights import BASE_DIR, FOLDERS, GRAPHS, listed, mounts_of
from hal0.providers.environment import environment
from hal0.providers.probing import PROBE_S, heard
from hal0.vocab import Capability, Device, ProviderName

if TYPE_CHECKING:
    from aiohttp import ClientSession

_PATHS: Final = frozenset({"/images/generations", "/images/edits", "/images/variations"})
_VISIBLE_GPU: Final[Mapping[Device, str]] = MappingProxyType(
    {Device.ROCM: "HIP_VISIBLE_DEVICES", Device.CUDA: "CUDA_VISIBLE_DEVICES"}
)
# Nothing of a model is read before the first picture, so a start is Python's imports and little else.
_MILESTONES: Final = (
    (re.compile(r"Total VRAM \d+ MB"), 0.5),
    (re.compile(r"Starting server"), 1.0),
)


class ComfyUI:
    """A server that knows no key: whoever reaches its port may use it, so the port is the loopback's alone."""

    name = ProviderName.COMFYUI
    container_port = 8080
    capabilities = frozenset({Capability.IMAGE})
    devices: tuple[Device, ...] = (Device.ROCM, Device.CUDA, Device.CPU)
    tags: frozenset[str] = frozenset()
    user: int | None = NOBODY
    stops_while_streaming = True
    at_once: int | None = 1  # it renders one after the other; whoever waits does so where hal0 sees it
    shares_gpu = False  # a picture takes minutes and comes seldom alone

    def loads(self, form: str, architecture: str) -> bool:
        return form != "gguf" and architecture in GRAPHS

    def image_key(self, device: Device, architecture: str = "") -> str:
        match device:
            case Device.ROCM | Device.CUDA:
                return "comfyui"
            case Device.CPU | Device.AUTO:
                return "comfyui-cpu"
            case Device.VULKAN | Device.NPU:
                message = f"cannot run ComfyUI on {device.value}; set device to rocm, cuda or cpu"
                raise Hal0Error("config.invalid", message, param="device")
            case _:
                assert_never(device)

    def build_env(self, launch: Launch) -> dict[str, str]:
        return environment(launch, visible=_VISIBLE_GPU)

    def start_cmd(self, launch: Launch) -> list[str]:
        argv = ["--listen", "0.0.0.0", "--port", str(launch.port), "--base-directory", BASE_DIR]  # noqa: S104  inside
        # No code but the engine's own, none of its paths outside, and no prompts written into the pictures.
        argv += ["--disable-all-custom-nodes", "--disable-api-nodes", "--disable-metadata"]
        argv += ["--database-url", "sqlite:///:memory:", "--preview-method", "latent2rgb"]
        if launch.device in {Device.CPU, Device.AUTO}:
            argv.append("--cpu")
        return [*argv, *launch.extra_args]

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        return mounts_of(launch)

    async def health(self, endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
        return await heard(_probe(endpoint, launch_model, session), endpoint, PROBE_S)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: "ClientSession") -> str | None:
        from hal0.providers.comfyui import served  # only who makes pictures needs it

        return await served.verified(endpoint, trial, session)

    def infer(self, request: InferRequest) -> Serve:
        if request.path not in _PATHS:
            raise Hal0Error(
                "dispatch.capability_mismatch",
                f"cannot answer {request.path} with {request.model}: ComfyUI makes pictures",
                details={"path": request.path, "provider": self.name.value},
            )
        return Serve(partial(_serve, model=request.model, stream=request.stream))

    def classify(self, ended: Exit) -> Verdict:
        return failures.verdict(ended)

    def progress(self, line: str) -> float | None:
        return next((fraction for pattern, fraction in _MILESTONES if pattern.search(line)), None)


async def _serve(exchange: Exchange, endpoint: Endpoint, *, model: str, stream: bool) -> None:
    from hal0.providers.comfyui import served  # only who makes pictures needs it

    await served.serve(exchange, endpoint, model=model, stream=stream)


async def _probe(endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
    """It lists what lies in its folders at once, and reads none of it before the first picture."""
    for folder in FOLDERS:
        async with session.get(f"{endpoint.base_url}/models/{folder}") as response:
            if response.status != 200:
                evidence = f"/models/{folder} answers {response.status}: this is no ComfyUI"
                return Health(HealthState.BROKEN, evidence)
            if listed(_names(await response.read()), launch_model, folder) is not None:
                return Health(HealthState.READY, f"/models/{folder} lists {launch_model}")
    return Health(HealthState.BROKEN, f"it does not list {launch_model}")


def _names(body: bytes) -> list[Any]:
    """What a folder lists; nothing for whatever else this is."""
    try:
        names = jsonio.loads(body)
    except jsonio.JSONDecodeError:
        return []
    return names if isinstance(names, list) else []


PROVIDER: Final[Provider] = ComfyUI()
