"""The llama.cpp provider: how a llama-server is started, probed, asked and understood."""

import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, assert_never

from aiohttp import ClientSession

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.models.entry import PICTURES
from hal0.providers import llamacpp_failures, llamacpp_rerank, llamacpp_trial
from hal0.providers.base import (
    MODEL_DIR,
    NOBODY,
    SCRATCH,
    SECRET_FILE,
    AnswerMode,
    Endpoint,
    Exit,
    Forward,
    Health,
    InferRequest,
    Launch,
    Provider,
    Substitute,
    Trial,
    Verdict,
)
from hal0.providers.environment import environment
from hal0.providers.probing import PROBE_S, Probe
from hal0.vocab import Capability, Device, ProviderName

# The demonstration model says what it is in `system_fingerprint`, too. As the server spells it, without blanks: inside
# generated text the quotes are escaped, so it never matches there.
_FINGERPRINT: Final = b'"system_fingerprint":"'
_DEMO: Final = Substitute(_FINGERPRINT, lambda: _FINGERPRINT + b"hal0-demo ")
# Host memory for the states of earlier prompts. The server's own default is 8 GiB, which small hosts do not have;
# 1 GiB holds some tens of conversations of a mid-sized model.
_PROMPT_CACHE_MIB: Final = 1024

# What it says, with a 500, to a picture or a sound for a model that was given no projector for it.
_NO_PROJECTOR: Final = re.compile(rb'"message": ?"(image|audio|video) input is not supported')
# And, with a 500 as well, to what the client should have sent otherwise: a client would ask again and again.
_CLIENTS_FAULT: Final = re.compile(rb'"message": ?"(\'[a-z_]{1,40}\' is required|Failed to parse [a-z_]{1,40}(?=:))')

# Path below /v1 -> the server's own path. One answer for every spelling of rerank.
_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/chat/completions": "/v1/chat/completions",
        "/completions": "/v1/completions",
        "/responses": "/v1/responses",
        "/messages": "/v1/messages",
        "/messages/count_tokens": "/v1/messages/count_tokens",
        "/embeddings": "/v1/embeddings",
        "/rerank": "/v1/rerank",
        "/reranking": "/v1/rerank",
        "/rerankings": "/v1/rerank",
        "/audio/transcriptions": "/v1/audio/transcriptions",
        "/tokenize": "/tokenize",
        "/detokenize": "/detokenize",
        "/completion": "/completion",
        "/infill": "/infill",
        "/apply-template": "/apply-template",
        "/props": "/props",
    }
)

_VISIBLE_GPU: Final[Mapping[Device, str]] = MappingProxyType(
    {
        Device.VULKAN: "GGML_VK_VISIBLE_DEVICES",
        Device.ROCM: "HIP_VISIBLE_DEVICES",
        Device.CUDA: "CUDA_VISIBLE_DEVICES",
    }
)

# What the log tells of a load. Between the first two the weights are read, nearly all of the time; it says no more.
_MILESTONES: Final = (
    (re.compile(r"load_model: loading model '"), 0.0),
    (re.compile(r"llama threadpool init, n_threads"), 0.9),
    (re.compile(r"llama_server: model loaded"), 1.0),
)


class LlamaCpp:
    """llama-server in single-model mode; it asks for the slot's secret on every path but /health."""

    name = ProviderName.LLAMACPP
    container_port = 8080
    capabilities = frozenset(
        {Capability.CHAT, Capability.COMPLETION, Capability.EMBED, Capability.RERANK, Capability.VISION}
    )
    devices: tuple[Device, ...] = (Device.VULKAN, Device.CPU)
    tags: frozenset[str] = frozenset()
    user: int | None = NOBODY
    stops_while_streaming = False  # on SIGTERM it waits for its open streams, for ever
    at_once: int | None = None  # it has a queue of its own, and slots as many as it was given
    shares_gpu = True

    def __init__(self, *, probe_s: float = PROBE_S) -> None:
        self._probe = Probe("llama-server", probe_s)

    def loads(self, form: str, architecture: str) -> bool:
        return form == "gguf" and architecture not in PICTURES

    def image_key(self, device: Device, architecture: str = "") -> str:
        match device:
            case Device.VULKAN | Device.ROCM | Device.CUDA | Device.CPU:
                return device.value
            case Device.AUTO:
                return Device.CPU.value  # nobody found a GPU to choose
            case Device.NPU:
                raise Hal0Error(
                    "config.invalid",
                    "cannot run llama.cpp on the NPU; set device to vulkan, rocm, cuda or cpu",
                    param="device",
                )
            case _:
                assert_never(device)

    def build_env(self, launch: Launch) -> dict[str, str]:
        # Drivers keep the shaders that they have compiled below HOME.
        return environment(launch, {"HOME": SCRATCH}, visible=_VISIBLE_GPU)

    def start_cmd(self, launch: Launch) -> list[str]:
        argv = ["--host", "0.0.0.0", "--port", str(launch.port)]  # noqa: S104  inside the container
        argv += ["--model", f"{MODEL_DIR}/{launch.files[0].name}", "--alias", launch.model]
        if launch.demo:
            argv += ["--tags", "demo"]
        if launch.mmproj:
            argv += ["--mmproj", _mmproj_target(launch)]
        argv += ["--api-key-file", SECRET_FILE, "--metrics", "--no-ui", "--offline", "--jinja"]
        argv += ["--ctx-size", str(launch.context_size)]
        if launch.parallel is not None:
            # Unified: each request may use the whole context, not a fixed share of it.
            argv += ["--parallel", str(launch.parallel), "--kv-unified"]
        argv += _mode_flags(launch)
        # CPU threads are the engine's own choice: it knows the machine's cores.
        cpu = launch.device in {Device.CPU, Device.AUTO}
        argv += ["--gpu-layers", "0", "--device", "none"] if cpu else ["--gpu-layers", "all"]
        return [*argv, *launch.extra_args]

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        mounts = [Mount(file, f"{MODEL_DIR}/{file.name}") for file in launch.files]
        if launch.mmproj:
            mounts.append(Mount(launch.mmproj, _mmproj_target(launch)))
        return tuple(mounts)

    async def health(self, endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
        return await self._probe.health(endpoint, launch_model, session)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
        return await llamacpp_trial.verify(endpoint, trial, session)

    def infer(self, request: InferRequest) -> Forward:
        # Embeddings are RAW too: the server honours both values of encoding_format and refuses any other.
        path = _PATHS.get(request.path)
        if path is None:
            raise Hal0Error(
                "dispatch.capability_mismatch",
                f"cannot answer {request.path} with {request.model}: llama.cpp has no such path",
                details={"path": request.path, "provider": self.name.value},
            )
        if request.capability is Capability.RERANK:
            revise, convert = llamacpp_rerank.plain_documents, llamacpp_rerank.with_documents
            return Forward(path, revise=revise, answer=AnswerMode.INSPECT, convert=convert)
        return Forward(path, substitute=_DEMO if request.demo else None, explain=partial(_explained, request.model))

    def classify(self, ended: Exit) -> Verdict:
        return llamacpp_failures.verdict(ended)

    def progress(self, line: str) -> float | None:
        return next((fraction for pattern, fraction in _MILESTONES if pattern.search(line)), None)


def _explained(model: str, answer: bytes) -> Hal0Error | None:
    if (fault := _CLIENTS_FAULT.search(answer)) is not None:
        return Hal0Error("request.invalid", f"cannot answer: llama-server says: {fault[1].decode()}")
    said = _NO_PROJECTOR.search(answer)
    if said is None:
        return None
    kind = said[1].decode()
    return Hal0Error(
        "dispatch.capability_mismatch",
        f"cannot answer with {model!r}: it has no projector (mmproj), so it takes no {kind}",
        details={"model": model, "needs": kind},
        hint="Send text alone, or choose a model with a projector for it.",
    )


def _mode_flags(launch: Launch) -> list[str]:
    """Embedding, reranking or chat: one process does one of them. `--reranking` in extra_args decides by itself."""
    asked = {"--rerank", "--reranking", "--embedding", "--embeddings"} & set(launch.extra_args)
    rerank = Capability.RERANK in launch.capabilities and Capability.EMBED not in launch.capabilities
    if not asked and not rerank and Capability.EMBED not in launch.capabilities:
        return ["--cache-ram", str(_PROMPT_CACHE_MIB)]
    # A text is embedded in one batch, so a batch must hold the longest text there can be.
    batch = ["--batch-size", str(launch.context_size), "--ubatch-size", str(launch.context_size)]
    if asked:
        return batch
    return [*batch, "--reranking" if rerank else "--embeddings"]


def _mmproj_target(launch: Launch) -> str:
    """In a directory of its own: a projector may be called like its model."""
    assert launch.mmproj is not None
    return f"{MODEL_DIR}/mmproj/{launch.mmproj.name}"


PROVIDER: Final[Provider] = LlamaCpp()
