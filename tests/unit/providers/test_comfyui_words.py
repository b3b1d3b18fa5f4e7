"""What ComfyUI says, read: refusals, failed renders, steps, previews, and the log of an end."""

import struct
from typing import Any

import pytest

from hal0.providers.base import Exit
from hal0.providers.comfyui import faults
from hal0.providers.comfyui.provider import ComfyUI
from hal0.providers.comfyui.watch import Preview, Step, heard
from hal0.vocab import FailureClass
from tests.fakes.comfy import refusal

NO_OUTPUTS = {
    "error": {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}},
    "node_errors": {},
}


@pytest.mark.parametrize(
    ("answer", "code", "param", "says"),
    [
        (
            refusal("sample", "KSampler", "cfg", "value_bigger_than_max", "Value 200 bigger"),
            "request.invalid",
            "cfg",
            "200",
        ),
        (refusal("noise", "RandomNoise", "noise_seed", "invalid_input_type"), "request.invalid", "seed", "`seed`"),
        (refusal("latent", "EmptyLatentImage", "width", "value_smaller_than_min"), "request.invalid", "size", "`size`"),
        (refusal("image", "LoadImage", "image", "custom_validation_failed"), "request.invalid", "image", "`image`"),
        (
            refusal("weights", "CheckpointLoaderSimple", "ckpt_name", "value_not_in_list"),
            "render.failed",
            None,
            "ckpt_name",
        ),
        (refusal("sample", "KSampler", "image", "x"), "render.failed", None, "KSampler.image"),
        (NO_OUTPUTS, "render.failed", None, "Prompt has no outputs"),
        ({"error": "text", "node_errors": {"a": None, "b": {"errors": [None]}}}, "render.failed", None, "text"),
        ([], "render.failed", None, "does not say why"),
    ],
)
def test_a_refusal_is_the_clients_where_it_can_do_something(
    answer: Any, code: str, param: str | None, says: str
) -> None:
    error = faults.refused(answer)
    assert (error.code, error.param) == (code, param)
    assert says in error.message


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        ({"messages": [["execution_interrupted", {}]]}, "render.failed", "interrupted"),
        (
            {"messages": [["execution_error", {"exception_message": "CUDA out of memory"}]]},
            "slot.memory_budget",
            "smaller",
        ),
        (
            {"messages": [["execution_error", {"node_type": "VAEDecode", "exception_message": "a\n b"}]]},
            "render.failed",
            "VAEDecode failed: a b",
        ),
        ({"messages": None}, "render.failed", "does not say why"),
        (None, "render.failed", "does not say why"),
    ],
)
def test_a_failed_render_says_what_failed(status: Any, code: str, says: str) -> None:
    error = faults.failed(status)
    assert error.code == code
    assert says in error.message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ('{"type":"progress","data":{"value":3,"max":20,"node":"sample"}}', Step(3, 20)),
        ('{"type":"status","data":{}}', None),
        ('{"type":"progress","data":{"value":null,"max":20}}', None),
        ("{", None),
        ("[]", None),
        (struct.pack(">II", 1, 1) + b"jpeg", Preview(b"jpeg", "jpeg")),
        (struct.pack(">II", 1, 2) + b"png", Preview(b"png", "png")),
        (struct.pack(">II", 1, 9) + b"what", None),
        (struct.pack(">II", 4, 1) + b"metadata", None),
        (b"\0\0", None),
        (b"", None),
    ],
)
def test_steps_and_previews_are_heard(message: str | bytes, said: Step | Preview | None) -> None:
    assert heard(message) == said


STARTED = ("Total VRAM 24105 MB, total RAM 24105 MB", "Device: cpu")
OPTIONAL = ("ModuleNotFoundError: No module named 'spandrel'", "IMPORT FAILED: nodes_upscale_model.py")


@pytest.mark.parametrize(
    ("log", "failure", "code", "says"),
    [
        (
            ("main.py: error: unrecognized arguments: --fast-please",),
            FailureClass.PERMANENT,
            "slot.load_failed",
            "--fast-please; see extra_args",
        ),
        (("RuntimeError: No HIP GPUs are available",), FailureClass.PERMANENT, "device.permission", "finds no GPU"),
        (
            (*OPTIONAL, "torch.OutOfMemoryError: HIP out of memory"),
            FailureClass.TRANSIENT,
            "slot.memory_budget",
            "not enough memory",
        ),
        (
            ("ModuleNotFoundError: No module named 'torch'",),
            FailureClass.PERMANENT,
            "slot.load_failed",
            "lacks No module",
        ),
        ((*STARTED, *OPTIONAL, "done"), FailureClass.TRANSIENT, "slot.load_failed", "exit code 1: done"),
        (
            ("OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8080): in use",),
            FailureClass.TRANSIENT,
            "slot.port_taken",
            "8080",
        ),
    ],
)
def test_an_end_is_understood(log: tuple[str, ...], failure: FailureClass, code: str, says: str) -> None:
    verdict = ComfyUI().classify(Exit(1, oom_killed=False, wanted=False, warmed=False, log_tail=log))
    assert (verdict.failure_class, verdict.code) == (failure, code)
    assert says in verdict.message


def test_a_start_is_followed() -> None:
    lines = (*STARTED, "Starting server")
    assert [ComfyUI().progress(line) for line in lines] == [0.5, None, 1.0]
