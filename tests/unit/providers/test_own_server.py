"""hal0's own engine servers: how they are started, and why they end."""

import pytest

from hal0.providers import own_server
from hal0.providers.base import Exit
from hal0.vocab import FailureClass
from tests.unit.providers.test_llamacpp import launch

TRACEBACK = (
    "INFO loading",
    "ERROR the model does not load",
    "Traceback (most recent call last):",
    '  File "/opt/hal0/serving/app.py", line 165, in _load',
    "onnxruntime.capi.onnxruntime_pybind11_state.Fail: [ONNXRuntimeError] : 1 : FAIL : Load model failed",
)


def ended(code: int | None, *log: str, warmed: bool = False, oom: bool = False) -> Exit:
    return Exit(exit_code=code, oom_killed=oom, wanted=False, warmed=warmed, log_tail=log)


def test_the_command_line_shows_no_secret_and_lets_extra_arguments_win() -> None:
    assert own_server.start_cmd(launch(extra_args=("--port", "9")), "/models/voice") == [
        "--host", "0.0.0.0", "--port", "8080", "--model", "/models/voice", "--alias", "tiny-chat",
        "--api-key-file", "/run/hal0/secret", "--port", "9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "failure_class", "words"),
    [
        (
            ended(3, "ERROR cannot load the model: no voices"),
            FailureClass.PERMANENT,
            "cannot load the model: no voices",
        ),
        (
            ended(2, "usage: kokoro [-h]", "kokoro: error: unrecognized arguments: --x"),
            FailureClass.PERMANENT,
            "cannot start: unrecognized arguments: --x; see extra_args",
        ),
        (ended(1, *TRACEBACK), FailureClass.TRANSIENT, "the engine ended with exit code 1: onnxruntime.capi"),
        (ended(1, "MemoryError: bad_alloc"), FailureClass.TRANSIENT, "not enough memory (MemoryError: bad_alloc)"),
        (ended(139, warmed=True), FailureClass.TRANSIENT, "cannot go on: the engine ended by SIGSEGV"),
        (ended(137, oom=True), FailureClass.TRANSIENT, "memory limit"),
    ],
)
def test_an_end_is_explained(end: Exit, failure_class: FailureClass, words: str) -> None:
    verdict = own_server.classify(end)
    assert verdict.failure_class is failure_class
    assert words in verdict.message


def test_what_was_said_before_it_was_ready_does_not_explain_a_later_end() -> None:
    verdict = own_server.classify(ended(1, "ERROR cannot use a voice", "INFO bye", warmed=True))
    assert (verdict.code, verdict.message) == ("slot.exited", "cannot go on: the engine ended with exit code 1: bye")


def test_a_model_that_is_wrong_is_not_cured_by_another_image() -> None:
    assert not own_server.classify(ended(3, "ERROR cannot load the model: no voices")).curable
    assert own_server.classify(ended(3, "ERROR cannot use WebGpuExecutionProvider: no device")).curable
