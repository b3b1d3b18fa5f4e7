"""The llama.cpp provider: its command line, its probe and its paths."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import AnswerMode, Endpoint, HealthState, InferRequest, Launch
from hal0.providers.catalog import PROVIDERS
from hal0.providers.llamacpp import LlamaCpp
from hal0.vocab import Capability, Device, ProviderName, SlotName

PROVIDER = LlamaCpp()
SECRET = "s3cret"


def launch(**changes: Any) -> Launch:
    fields: dict[str, Any] = {
        "slot": SlotName("primary"),
        "model": "tiny-chat",
        "files": (Path("/store/tiny/tiny-chat.gguf"),),
        "mmproj": None,
        "capabilities": frozenset({Capability.CHAT, Capability.COMPLETION}),
        "device": Device.CPU,
        "gpu_index": None,
        "context_size": 4096,
        "parallel": None,
        "extra_args": (),
        "env": {},
        "port": 8080,
    }
    return Launch(**(fields | changes))


def argv(**changes: Any) -> str:
    return " ".join(PROVIDER.start_cmd(launch(**changes)))


def test_the_whole_command_line_of_a_chat_slot() -> None:
    assert argv() == (
        "--host 0.0.0.0 --port 8080 --model /models/tiny-chat.gguf --alias tiny-chat "
        "--api-key-file /run/hal0/secret --metrics --no-ui --offline --jinja --ctx-size 4096 "
        "--cache-ram 1024 --gpu-layers 0 --device none"
    )


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"device": Device.VULKAN}, "--gpu-layers all", "--device"),
        ({"parallel": 2}, "--parallel 2 --kv-unified", "-np"),
        ({"capabilities": {Capability.EMBED}}, "--batch-size 4096 --ubatch-size 4096 --embeddings", "--cache-ram"),
        ({"capabilities": {Capability.RERANK}}, "--batch-size 4096 --ubatch-size 4096 --reranking", "--embeddings"),
        ({"capabilities": {Capability.EMBED}}, "--embeddings", "--pooling"),
        ({"extra_args": ("--reranking",)}, "--ubatch-size 4096 --gpu-layers 0 --device none --reranking", "--embed"),
        ({"capabilities": {Capability.EMBED}, "extra_args": ("--reranking",)}, "--reranking", "--embeddings"),
        ({"mmproj": Path("/store/v/tiny-chat.gguf")}, "--mmproj /models/mmproj/tiny-chat.gguf", "--tags"),
        ({"demo": True}, "--alias tiny-chat --tags demo", "--mmproj"),
    ],
)
def test_what_a_launch_adds(changes: dict[str, Any], present: str, absent: str) -> None:
    line = argv(**changes)
    assert present in line
    assert absent not in line


def test_extra_arguments_come_last_so_that_they_win() -> None:
    assert argv(extra_args=("--cache-ram", "0")).endswith(" --cache-ram 0")


def test_no_secret_is_on_the_command_line_or_in_the_environment() -> None:
    assert "--api-key " not in argv() + " "
    assert PROVIDER.build_env(launch()) == {"HAL0_SLOT": "primary", "HAL0_MODEL": "tiny-chat", "HOME": "/tmp"}


@pytest.mark.parametrize(
    ("device", "variable"),
    [
        (Device.VULKAN, "GGML_VK_VISIBLE_DEVICES"),
        (Device.ROCM, "HIP_VISIBLE_DEVICES"),
        (Device.CUDA, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_is_chosen_by_the_runtimes_own_variable(device: Device, variable: str) -> None:
    assert PROVIDER.build_env(launch(device=device, gpu_index=1))[variable] == "1"
    assert variable not in PROVIDER.build_env(launch(device=device))


def test_the_users_environment_wins() -> None:
    env = PROVIDER.build_env(launch(device=Device.CUDA, gpu_index=1, env={"CUDA_VISIBLE_DEVICES": "3", "X": "y"}))
    assert (env["CUDA_VISIBLE_DEVICES"], env["X"]) == ("3", "y")


def test_only_the_models_own_files_are_mounted_read_only() -> None:
    parts = (Path("/store/m/a-00001-of-00002.gguf"), Path("/store/m/a-00002-of-00002.gguf"))
    mounts = PROVIDER.mounts(launch(files=parts, mmproj=Path("/store/m/mm.gguf")))
    assert [(mount.source, mount.target) for mount in mounts] == [
        (parts[0], "/models/a-00001-of-00002.gguf"),
        (parts[1], "/models/a-00002-of-00002.gguf"),
        (Path("/store/m/mm.gguf"), "/models/mmproj/mm.gguf"),
    ]
    assert all(mount.read_only for mount in mounts)


@pytest.mark.parametrize(
    ("device", "key"),
    [
        (Device.VULKAN, "vulkan"),
        (Device.ROCM, "rocm"),
        (Device.CUDA, "cuda"),
        (Device.CPU, "cpu"),
        (Device.AUTO, "cpu"),
    ],
)
def test_the_image_follows_the_device(device: Device, key: str) -> None:
    assert PROVIDER.image_key(device) == key


def test_the_npu_is_refused() -> None:
    with pytest.raises(Hal0Error, match=r"cannot run llama\.cpp on the NPU"):
        PROVIDER.image_key(Device.NPU)


@asynccontextmanager
async def server(
    health: int = 200, models: object = None, status: int = 200, hang: bool = False
) -> AsyncIterator[Endpoint]:
    """A server that answers the two probed paths as told, and wants the secret for the second."""

    async def answer_health(_: web.Request) -> web.Response:
        if hang:
            await asyncio.Event().wait()
        return web.Response(status=health)

    async def answer_models(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return web.Response(status=401)
        return web.Response(status=status, body=jsonio.dumps(models))

    app = web.Application()
    app.router.add_get("/health", answer_health)
    app.router.add_get("/v1/models", answer_models)
    async with TestServer(app, host="127.0.0.1") as running:
        assert running.port
        yield Endpoint("127.0.0.1", running.port, SECRET)


MINE = {"object": "list", "data": [{"id": "tiny-chat", "meta": None}]}


@pytest.mark.parametrize(
    ("told", "state", "evidence"),
    [
        ({"models": MINE}, HealthState.READY, "lists tiny-chat"),
        ({"health": 503}, HealthState.LOADING, "503"),
        ({"models": {}, "status": 503}, HealthState.LOADING, "503"),
        ({"models": {"object": "list", "data": []}}, HealthState.BROKEN, "lists no model, not tiny-chat"),
        ({"models": {"data": [{"id": "other"}]}}, HealthState.BROKEN, "lists other, not tiny-chat"),
        ({"models": {"models": []}}, HealthState.BROKEN, "without a list of models"),
        ({"models": ["x"]}, HealthState.BROKEN, "without a list of models"),
        ({"models": {}, "status": 500}, HealthState.BROKEN, "/v1/models answers 500"),
        ({"health": 404}, HealthState.BROKEN, "/health answers 404"),
    ],
)
async def test_what_the_probe_makes_of_answers(told: dict[str, Any], state: HealthState, evidence: str) -> None:
    async with server(**told) as endpoint, ClientSession() as session:
        health = await PROVIDER.health(endpoint, "tiny-chat", session)
    assert health.state is state
    assert evidence in health.evidence


async def test_a_server_that_refuses_the_secret_is_not_ours() -> None:
    async with server(models=MINE) as endpoint, ClientSession() as session:
        stranger = Endpoint(endpoint.host, endpoint.port, "another")
        health = await PROVIDER.health(stranger, "tiny-chat", session)
    assert health.state is HealthState.BROKEN
    assert "secret" in health.evidence
    assert "another" not in health.evidence.partition(":")[0]


async def test_nobody_listening_is_an_answer(free_port: int) -> None:
    async with ClientSession() as session:
        health = await PROVIDER.health(Endpoint("127.0.0.1", free_port, SECRET), "tiny-chat", session)
    assert health.state is HealthState.NOT_LISTENING
    assert str(free_port) in health.evidence


async def test_silence_ends_with_the_probes_deadline() -> None:
    async with server(hang=True) as endpoint, ClientSession() as session:
        health = await LlamaCpp(probe_s=0.05).health(endpoint, "tiny-chat", session)
    assert health.state is HealthState.SILENT
    assert "no answer within 0.05 s" in health.evidence


def infer(path: str, **more: Any) -> InferRequest:
    return InferRequest(path, Capability.CHAT, "tiny-chat", stream=False, **more)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/responses", "/v1/responses"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/embeddings", "/v1/embeddings"),
        ("/rerank", "/v1/rerank"),
        ("/reranking", "/v1/rerank"),
        ("/rerankings", "/v1/rerank"),
        ("/tokenize", "/tokenize"),
        ("/detokenize", "/detokenize"),
    ],
)
def test_paths_become_the_servers_own(asked: str, sent: str) -> None:
    forward = PROVIDER.infer(infer(asked))
    assert (forward.path, forward.edits, forward.answer) == (sent, None, AnswerMode.RAW)


@pytest.mark.parametrize("path", ["/images/generations", "/audio/speech", "/../props", "/models"])
def test_other_paths_are_a_mismatch(path: str) -> None:
    with pytest.raises(Hal0Error) as caught:
        PROVIDER.infer(infer(path))
    assert caught.value.code == "dispatch.capability_mismatch"


def test_embeddings_pass_untouched_in_both_formats() -> None:
    forwards = {PROVIDER.infer(infer("/embeddings", encoding_format=form)).answer for form in (None, "float", "base64")}
    assert forwards == {AnswerMode.RAW}


def test_the_log_tells_how_far_a_load_is() -> None:
    lines = [
        "0.00.029.013 I srv  llama_server: initializing ...",
        "0.00.030.587 I srv    load_model: loading model '/models/tiny-chat.gguf'",
        "0.00.039.127 I cmn          init: llama threadpool init, n_threads = 2",
        "0.00.046.260 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 512, kv_unified = 'true'",
        "0.00.049.442 I srv  llama_server: model loaded",
    ]
    assert [PROVIDER.progress(line) for line in lines] == [None, 0.0, 0.9, None, 1.0]


def test_the_catalog_is_keyed_by_the_providers_own_names() -> None:
    assert PROVIDERS[ProviderName.LLAMACPP].name is ProviderName.LLAMACPP
    assert all(provider.name is name for name, provider in PROVIDERS.items())
