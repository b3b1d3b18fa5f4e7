"""The Kokoro provider: its command line, its images, its trial and its paths."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.providers.base import AnswerMode, Endpoint, Exit, HealthState, InferRequest, Trial
from hal0.providers.catalog import PROVIDERS
from hal0.providers.kokoro import Kokoro
from hal0.vocab import Capability, Device, FailureClass, ProviderName
from tests.unit.providers.test_llamacpp import launch

PROVIDER = Kokoro()
FOLDER = Path("/store/kokoro-82m")
VOICE = launch(
    model="kokoro-82m",
    files=(FOLDER / "kokoro-v1.0.onnx", FOLDER / "voices-v1.0.bin"),
    directory=FOLDER,
    capabilities=frozenset({Capability.TTS}),
    env={"OMP_NUM_THREADS": "2"},
)


def asked(path: str) -> InferRequest:
    return InferRequest(path=path, capability=Capability.TTS, model="kokoro-82m", stream=False)


def test_the_catalogue_has_it() -> None:
    assert isinstance(PROVIDERS[ProviderName.KOKORO], Kokoro)


def test_it_is_given_the_models_folder_and_nothing_else_of_the_store() -> None:
    assert PROVIDER.mounts(VOICE) == (Mount(FOLDER, "/models/kokoro-82m"),)
    assert "--model /models/kokoro-82m --alias kokoro-82m" in " ".join(PROVIDER.start_cmd(VOICE))
    assert PROVIDER.build_env(VOICE) == {
        "HAL0_SLOT": "primary", "HAL0_MODEL": "kokoro-82m", "OMP_NUM_THREADS": "2",
    }  # fmt: skip


def test_on_vulkan_the_runtime_is_named_so_that_it_does_not_fall_back_unseen() -> None:
    assert PROVIDER.build_env(replace(VOICE, device=Device.VULKAN))["ONNX_PROVIDER"] == "WebGpuExecutionProvider"


@pytest.mark.parametrize(
    ("device", "architecture", "key"),
    [
        (Device.CPU, "kokoro", "kokoro"),
        (Device.AUTO, "kokoro", "kokoro"),
        (Device.CPU, "", "kokoro"),
        (Device.VULKAN, "kokoro", "kokoro-vulkan"),
        (Device.VULKAN, "f5-tts", "f5-tts"),
        (Device.CPU, "f5-tts", "f5-tts"),
    ],
)
def test_the_model_decides_which_image_speaks(device: Device, architecture: str, key: str) -> None:
    assert PROVIDER.image_key(device, architecture) == key


def test_the_npu_is_refused() -> None:
    with pytest.raises(Hal0Error, match="cannot run Kokoro on the NPU"):
        PROVIDER.image_key(Device.NPU, "kokoro")


@pytest.mark.parametrize("path", ["/audio/speech", "/audio/voices"])
def test_its_paths_pass_untouched(path: str) -> None:
    forward = PROVIDER.infer(asked(path))
    assert (forward.path, forward.answer, forward.edits) == (f"/v1{path}", AnswerMode.RAW, None)


def test_it_does_nothing_but_speak() -> None:
    with pytest.raises(Hal0Error) as refused:
        PROVIDER.infer(asked("/audio/transcriptions"))
    assert refused.value.code == "dispatch.capability_mismatch"


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (200, b"\0\0\x01\0", None),
        (200, bytes(400), "/v1/audio/speech answers 200, and silence"),
        (200, b"", "/v1/audio/speech answers 200, and silence"),
        (400, b'{"error": {"message": "send ref_audio", "param": "ref_audio"}}', None),
        (400, b'{"error": {"param": "voice"}}', '/v1/audio/speech answers 400: {"error": {"param": "voice"}}'),
        (500, b'{"error":\n  1}', '/v1/audio/speech answers 500: {"error": 1}'),
    ],
)
async def test_a_trial_wants_to_hear_something(status: int, body: bytes, wrong: str | None) -> None:
    seen: dict[str, Any] = {}

    async def speak(request: web.Request) -> web.Response:
        seen.update(await request.json(), secret=request.headers["Authorization"])
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/v1/audio/speech", speak)
    async with TestServer(app) as server, ClientSession() as session:
        assert server.port is not None
        endpoint = Endpoint("127.0.0.1", server.port, "s3cret")
        trial = Trial("kokoro-82m", frozenset({Capability.TTS}))
        assert await PROVIDER.verify(endpoint, trial, session) == wrong
        assert (await PROVIDER.health(endpoint, "kokoro-82m", session)).state is HealthState.BROKEN  # it has no /health
    assert (seen["response_format"], seen["secret"]) == ("pcm", "Bearer s3cret")


def test_a_model_that_cannot_be_loaded_rests() -> None:
    log = ("INFO loading", "ERROR cannot load the model: one .onnx file and one npz of voices are needed")
    verdict = PROVIDER.classify(Exit(exit_code=3, oom_killed=False, wanted=False, warmed=False, log_tail=log))
    assert verdict.failure_class is FailureClass.PERMANENT
    assert "one npz of voices" in verdict.message


def test_the_log_tells_when_it_has_loaded() -> None:
    assert PROVIDER.progress("INFO model loaded: kokoro-82m") == 1.0
    assert PROVIDER.progress("INFO devices in use: CPUExecutionProvider") is None
