"""The FLM provider: one process on the NPU that chats, embeds and listens, kept to the slot's own models."""

import secrets
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiohttp import ClientSession

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers import flm_answers
from hal0.providers.base import (
    NOBODY,
    SCRATCH,
    Answer,
    AnswerMode,
    Endpoint,
    Exit,
    Forward,
    Health,
    HealthState,
    InferRequest,
    Launch,
    Provider,
    Substitute,
    Trial,
    Verdict,
)
from hal0.providers.environment import environment
from hal0.providers.flm_failures import verdict
from hal0.providers.flm_tags import EMBEDDER, RIDERS
from hal0.providers.probing import PROBE_S, heard
from hal0.vocab import Capability, Device, ProviderName

# Weights are below <this>/models/<folder>; everything else of FLM is in the image.
MODEL_PATH: Final = "/flm"
_SMALLEST_CONTEXT: Final = 512
# Every chat answer of FLM has the same id; clients key their state by it.
_CHAT_ID: Final = b'"fastflowlm-chat-completion"'
_RIDES: Final = MappingProxyType({Capability.EMBED: "--embed", Capability.STT: "--asr"})


class _Way(NamedTuple):
    """A path of FLM's, and what becomes of its answers."""

    path: str
    convert: Any
    fields: tuple[str, ...] = ()
    check: Any = None


_WAYS: Final[Mapping[str, _Way]] = MappingProxyType(
    {
        "/chat/completions": _Way("/v1/chat/completions", flm_answers.text),
        "/completions": _Way("/v1/completions", flm_answers.text),
        "/embeddings": _Way("/v1/embeddings", flm_answers.vectors, ("encoding_format",)),
        "/audio/transcriptions": _Way(
            "/v1/audio/transcriptions", flm_answers.transcript, ("response_format",), flm_answers.no_times
        ),
    }
)


class Flm:
    """`flm serve` of one tag. FLM listens when all its models are loaded, and asks nobody for a secret.

    `tags` are the names of FLM's own list (`flm list -j`), once that is known.
    """

    name = ProviderName.FLM
    container_port = 8086
    capabilities = frozenset(
        {Capability.CHAT, Capability.COMPLETION, Capability.VISION, Capability.EMBED, Capability.STT}
    )
    devices: tuple[Device, ...] = (Device.NPU,)
    user: int | None = NOBODY
    stops_while_streaming = True
    # The NPU does one thing at a time. FLM's own line is ten long, knows nobody's turn, and leaves completions out.
    at_once: int | None = 1
    shares_gpu = True

    def __init__(self, *, probe_s: float = PROBE_S) -> None:
        self._probe_s = probe_s
        self.tags: frozenset[str] = frozenset()

    def know(self, tags: Iterable[str]) -> None:
        """FLM's list, as the image has it now."""
        self.tags = frozenset(tags)

    def loads(self, form: str, architecture: str) -> bool:
        return form == "q4nx"

    def image_key(self, device: Device, architecture: str = "") -> str:
        if device is not Device.NPU:
            raise Hal0Error(
                "config.invalid", f"cannot run FLM on {device}; it is for the NPU, set device to npu", param="device"
            )
        return "flm"

    def build_env(self, launch: Launch) -> dict[str, str]:
        own = {"FLM_MODEL_PATH": MODEL_PATH, "FLM_DISABLE_UPDATE_CHECK": "1", "HOME": SCRATCH}
        return environment(launch, own)

    def start_cmd(self, launch: Launch) -> list[str]:
        alone = launch.model in RIDERS.values()
        argv = ["serve"] if alone else ["serve", launch.model]
        argv += ["--host", "0.0.0.0", "--port", str(launch.port), "--cors", "0"]  # noqa: S104  inside the container
        if not alone:
            argv += ["--ctx-len", str(max(launch.context_size, _SMALLEST_CONTEXT))]
        for capability, flag in _RIDES.items():
            argv += [flag, "1" if capability in launch.capabilities else "0"]
        return [*argv, *launch.extra_args]

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        folders = dict.fromkeys(file.parent for file in launch.files)
        return tuple(Mount(folder, f"{MODEL_PATH}/models/{folder.name}") for folder in folders)

    async def health(self, endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
        return await heard(_probe(endpoint, launch_model, session), endpoint, self._probe_s)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
        path, body = _work_of(trial)
        async with session.post(f"{endpoint.base_url}{path}", json=body) as response:
            answer = await response.read()
        made = flm_answers.text({}, answer) if response.status == 200 else Answer(response.status, "", answer)
        if isinstance(made, bytes):
            return None
        said = " ".join(made.body.decode(errors="replace").split())[:200]
        return f"{path} answers {made.status}: {said}"

    def infer(self, request: InferRequest) -> Forward:
        way = _WAYS.get(request.path)
        if way is None:
            raise Hal0Error(
                "dispatch.capability_mismatch",
                f"cannot answer {request.path} with {request.model}: FLM has no such path",
                details={"path": request.path, "provider": self.name.value},
            )
        # FLM loads whatever model a request names, and falls back to one of its own: it is told the slot's.
        return Forward(
            way.path,
            edits={"model": request.model},
            answer=AnswerMode.INSPECT,
            convert=way.convert,
            fields=way.fields,
            check=way.check,
            substitute=Substitute(_CHAT_ID, _new_id),
        )

    def classify(self, ended: Exit) -> Verdict:
        return verdict(ended)

    def progress(self, line: str) -> float | None:
        """FLM says nothing of how far it is."""
        return None


def offered(*, xdna: bool, image_here: bool) -> bool:
    """Whether the NPU is shown at all: to who has neither it only promises what cannot be had."""
    return xdna and image_here


def _new_id() -> bytes:
    return b'"chatcmpl-%b"' % secrets.token_hex(12).encode()


def _work_of(trial: Trial) -> tuple[str, dict[str, Any]]:
    if trial.model == EMBEDDER:
        return "/v1/embeddings", {"model": EMBEDDER, "input": "Hello"}
    messages = [{"role": "user", "content": "Hello"}]
    return "/v1/chat/completions", {"model": trial.model, "messages": messages, "max_tokens": 1}


async def _probe(endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
    async with session.get(f"{endpoint.base_url}/v1/health") as response:
        if response.status != 200:
            return Health(HealthState.BROKEN, f"/v1/health answers {response.status}: this is no FLM")
    if launch_model in RIDERS.values():
        return Health(HealthState.READY, f"/v1/health answers 200, for {launch_model} alone")
    async with session.get(f"{endpoint.base_url}/api/ps") as response:
        return _loaded(await response.read(), launch_model)


def _loaded(body: bytes, launch_model: str) -> Health:
    """READY only with the slot's tag: FLM stays up when its language model could not be loaded."""
    try:
        names = [str(model["name"]) for model in jsonio.loads(body)["models"]]
    except (jsonio.JSONDecodeError, KeyError, TypeError):
        return Health(HealthState.BROKEN, "/api/ps names no model: FLM runs, and has loaded none")
    if launch_model in names:
        return Health(HealthState.READY, f"/api/ps names {launch_model}")
    return Health(HealthState.BROKEN, f"/api/ps names {', '.join(names) or 'no model'}, not {launch_model}")


FLM: Final = Flm()
PROVIDER: Final[Provider] = FLM
