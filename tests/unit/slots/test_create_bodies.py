"""From a machine's device nodes to podman's create body: what each provider's container is given on each device."""

from pathlib import Path
from typing import Any

import pytest

from hal0.config.slots import SlotConfig
from hal0.engine.payload import HostProfile, create_body
from hal0.hardware.gpu import device_nodes
from hal0.providers.catalog import PROVIDERS
from hal0.slots.plan import Place, launch_of, spec_of
from hal0.vocab import Capability, Device, ProviderName, SlotName
from tests.fakes.world import FakeModel
from tests.unit.hardware.test_gpu import machine
from tests.unit.slots.lives import container

PRIMARY = SlotName("primary")
EVERYTHING = ("dev/kfd", "dev/dri/card0", "dev/dri/renderD128", "dev/accel/accel0", "etc/cdi/nvidia.yaml")
DRI = ["/dev/dri/card0", "/dev/dri/renderD128"]
CHAT = FakeModel("chat", (Path("/store/chat.gguf"),))
VOICE = FakeModel(
    "voice", (Path("/store/v/kokoro.onnx"),), format="onnx", architecture="kokoro", directory=Path("/store/v")
)
WORDS = FakeModel("words", (Path("/store/m/encoder_model.onnx"),), format="onnx", architecture="moonshine")
PICTURE = FakeModel("pic", (Path("/store/pic.safetensors"),), format="safetensors", architecture="sd15")
NPU = FakeModel("qwen3:4b", (Path("/store/flm/models/Qwen3/model.q4nx"),), format="q4nx", architecture="qwen3",
                capabilities=frozenset({Capability.CHAT}))  # fmt: skip


def body(root: Path, name: ProviderName, model: FakeModel, device: Device) -> dict[str, Any]:
    place, config = Place("0badcafe", devices=device_nodes(machine(root, *EVERYTHING))), SlotConfig(gpu_index=1)
    provider = PROVIDERS[name]
    launch = launch_of(PRIMARY, config, model, provider, device)
    box = container(3, port=20003)
    spec = spec_of(box, launch, provider, config, place, image_id="img", secret_file=Path("/s/secret"))
    return create_body(spec, HostProfile())


@pytest.mark.parametrize(
    ("name", "model", "device", "image", "nodes", "env", "flags"),
    [
        (ProviderName.LLAMACPP, CHAT, Device.CPU, "cpu", [], {}, "--gpu-layers 0 --device none"),
        (ProviderName.LLAMACPP, CHAT, Device.VULKAN, "vulkan", DRI, {"GGML_VK_VISIBLE_DEVICES": "1"},
         "--gpu-layers all"),
        (ProviderName.LLAMACPP, CHAT, Device.ROCM, "rocm", ["/dev/kfd", *DRI], {"HIP_VISIBLE_DEVICES": "1"},
         "--gpu-layers all"),
        (ProviderName.LLAMACPP, CHAT, Device.CUDA, "cuda", ["nvidia.com/gpu=all"], {"CUDA_VISIBLE_DEVICES": "1"},
         "--gpu-layers all"),
        (ProviderName.FLM, NPU, Device.NPU, "flm", ["/dev/accel/accel0"], {"FLM_DISABLE_UPDATE_CHECK": "1"},
         "serve qwen3:4b --host 0.0.0.0 --port 8086"),
        (ProviderName.MOONSHINE, WORDS, Device.CPU, "moonshine", [], {}, "--model /models/words"),
        (ProviderName.KOKORO, VOICE, Device.CPU, "kokoro", [], {}, "--model /models/v"),
        (ProviderName.KOKORO, VOICE, Device.VULKAN, "kokoro-vulkan", DRI,
         {"ONNX_PROVIDER": "WebGpuExecutionProvider"}, "--model /models/v"),
        (ProviderName.COMFYUI, PICTURE, Device.CPU, "comfyui-cpu", [], {}, "--cpu"),
        (ProviderName.COMFYUI, PICTURE, Device.ROCM, "comfyui", ["/dev/kfd", *DRI], {"HIP_VISIBLE_DEVICES": "1"},
         "--listen 0.0.0.0 --port 8080"),
        (ProviderName.COMFYUI, PICTURE, Device.CUDA, "comfyui", ["nvidia.com/gpu=all"], {"CUDA_VISIBLE_DEVICES": "1"},
         "--listen 0.0.0.0 --port 8080"),
    ],
)  # fmt: skip
def test_a_container_is_given_its_device_and_nothing_of_the_others(
    tmp_path: Path, name: ProviderName, model: FakeModel, device: Device, image: str, nodes: list[str],
    env: dict[str, str], flags: str,
) -> None:  # fmt: skip
    made = body(tmp_path, name, model, device)
    assert PROVIDERS[name].image_key(device, model.architecture) == image
    assert made["devices"] == [{"path": node} for node in nodes]
    here = [node for node in nodes if node.startswith("/")]
    assert made["groups"] == sorted({str((tmp_path / node[1:]).stat().st_gid) for node in here})
    assert env.items() <= made["env"].items()
    visible = {key for key in made["env"] if key.endswith("_VISIBLE_DEVICES")}
    assert visible <= env.keys(), "no other runtime is told anything"
    assert flags in " ".join(made["command"])
    assert made.get("r_limits", []) == (
        [{"type": "memlock", "soft": -1, "hard": -1}] if device is Device.NPU else []
    )  # fmt: skip
    assert made["user"] == "65534:65534"
    assert (made["init"], made["cap_drop"], made["no_new_privileges"]) == (True, ["ALL"], True)


def test_a_nodes_group_is_passed_by_number(tmp_path: Path) -> None:
    """Names differ between the image and the host."""
    root = machine(tmp_path, *EVERYTHING)
    assert body(root, ProviderName.LLAMACPP, CHAT, Device.ROCM)["groups"] == [str((root / "dev" / "kfd").stat().st_gid)]
