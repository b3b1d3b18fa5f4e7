"""What the Moonshine provider asks podman for, sends where, and refuses."""

import io
import wave
from pathlib import Path
from types import MappingProxyType

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from hal0.errors import Hal0Error
from hal0.providers.base import Endpoint, Exit, Forward, InferRequest, Launch, Trial
from hal0.providers.moonshine import Moonshine
from hal0.vocab import Capability, Device, FailureClass, SlotName

MOONSHINE = Moonshine()
FOLDER = Path("/store/moonshine-tiny")
LAUNCH = Launch(
    slot=SlotName("stt"),
    model="moonshine-tiny",
    files=(FOLDER / "encoder_model.onnx", FOLDER / "decoder_model_merged.onnx"),
    mmproj=None,
    capabilities=frozenset({Capability.STT}),
    device=Device.CPU,
    gpu_index=None,
    context_size=0,
    parallel=None,
    extra_args=(),
    env=MappingProxyType({"OMP_NUM_THREADS": "2"}),
    port=8080,
    directory=FOLDER,
)


def test_the_folder_is_mounted_file_by_file_and_named_in_the_command() -> None:
    argv = MOONSHINE.start_cmd(LAUNCH)
    assert argv[argv.index("--model") + 1] == "/models/moonshine-tiny"
    assert argv[argv.index("--alias") + 1] == "moonshine-tiny"
    mounts = MOONSHINE.mounts(LAUNCH)
    assert [(mount.source, mount.target) for mount in mounts] == [
        (FOLDER / name, f"/models/moonshine-tiny/{name}")
        for name in ("encoder_model.onnx", "decoder_model_merged.onnx")
    ]
    assert all(mount.read_only for mount in mounts)
    assert MOONSHINE.build_env(LAUNCH) == {
        "HAL0_SLOT": "stt", "HAL0_MODEL": "moonshine-tiny", "OMP_NUM_THREADS": "2"
    }  # fmt: skip


def test_it_has_the_cpu_and_says_so() -> None:
    assert {MOONSHINE.image_key(device) for device in (Device.CPU, Device.AUTO)} == {"moonshine"}
    for device in (Device.VULKAN, Device.ROCM, Device.CUDA, Device.NPU):
        with pytest.raises(Hal0Error, match="it has the CPU only; set device to cpu") as caught:
            MOONSHINE.image_key(device)
        assert caught.value.code == "config.invalid"


@pytest.mark.parametrize("path", ["/audio/transcriptions", "/audio/translations"])
def test_forms_go_on_as_they_are(path: str) -> None:
    asked = InferRequest(path=path, capability=Capability.STT, model="moonshine-tiny", stream=True)
    assert MOONSHINE.infer(asked) == Forward(f"/v1{path}")


def test_other_paths_are_none_of_its() -> None:
    with pytest.raises(Hal0Error, match="Moonshine has no such path"):
        MOONSHINE.infer(InferRequest(path="/audio/speech", capability=None, model="m", stream=False))


def test_a_load_ends_in_the_log() -> None:
    assert MOONSHINE.progress("INFO model loaded: moonshine-tiny") == 1.0
    assert MOONSHINE.progress("INFO anything") is None


def test_a_model_that_can_never_load_is_told_in_the_servers_words() -> None:
    said = "cannot load the model: its decoder is not one of Moonshine's"
    ended = Exit(exit_code=3, oom_killed=False, wanted=False, warmed=False, log_tail=(f"ERROR {said}",))
    verdict = MOONSHINE.classify(ended)
    assert (verdict.failure_class, verdict.message, verdict.curable) == (FailureClass.PERMANENT, said, False)


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (200, b'{"text": ""}', None),
        (200, b"[]", "answers 200, and nothing that it was asked for"),
        (200, b"<html>", "answers 200, and nothing that it was asked for"),
        (500, b"the engine\n failed", "answers 500: the engine failed"),
    ],
)
async def test_a_verification_is_a_second_of_sound(status: int, body: bytes, wrong: str | None) -> None:
    sent: list[bytes] = []

    async def transcribe(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer s3cret"
        file = (await request.post())["file"]
        assert isinstance(file, web.FileField)
        sent.append(file.file.read())
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/v1/audio/transcriptions", transcribe)
    async with TestClient(TestServer(app)) as client:
        endpoint = Endpoint("127.0.0.1", client.port or 0, "s3cret")
        trial = Trial("moonshine-tiny", frozenset({Capability.STT}))
        told = await MOONSHINE.verify(endpoint, trial, client.session)
    assert told == (None if wrong is None else f"/v1/audio/transcriptions {wrong}")
    with wave.open(io.BytesIO(sent[0])) as sound:
        assert (sound.getframerate(), sound.getnframes(), sound.getnchannels()) == (16_000, 16_000, 1)
        assert len(set(sound.readframes(16_000))) > 30
