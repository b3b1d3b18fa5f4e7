"""Ends of llama-server, from logs recorded of build 11669."""

import pytest

from hal0.providers.base import Exit, Verdict
from hal0.providers.llamacpp import LlamaCpp
from hal0.vocab import FailureClass

PERMANENT, TRANSIENT = FailureClass.PERMANENT, FailureClass.TRANSIENT

HEAD = """\
0.00.001.281 I srv  llama_server: initializing ...
0.00.012.107 I cmn  common_param: common_params_print_info: verbosity = 3 (adjust with the `-lv N` CLI arg)
0.00.012.238 I srv  init_listene: Use --ui/--no-ui (or deprecated --webui/--no-webui) to enable/disable
0.00.013.898 I srv    load_model: loading model '/models/m.gguf'
"""
FIT = (
    "0.00.014.145 E common_fit_params: encountered an error while trying to fit params to free device memory: "
    "failed to load model\n"
)
TAIL = """\
0.00.014.122 E llama_model_load_from_file_impl: failed to load model
0.00.014.162 E cmn  common_init_: failed to load model '/models/m.gguf'
0.00.014.163 E srv    load_model: failed to load model, '/models/m.gguf'
0.00.014.165 I srv    operator(): operator(): cleaning up before exit...
0.00.014.483 E srv  llama_server: exiting due to model loading error
"""

MISSING = """\
0.00.014.022 E gguf_init_from_file: failed to open GGUF file '/models/m.gguf' (No such file or directory)
0.00.014.108 E llama_model_load: error loading model: llama_model_loader: failed to load model from /models/m.gguf
"""
LOADING_FAILURES = {
    "missing": (MISSING, "cannot open the model file m.gguf: No such file or directory"),
    "cut short": (
        (
            "0.00.013.786 E llama_model_load: error loading model: tensor 'blk.0.ffn_up.weight' data is not within the "
            "file bounds, model is corrupted or incomplete\n"
        ),
        "cannot load the model: its file is damaged or cut short; pull it again",
    ),
    "no gguf": (
        "0.00.011.951 E gguf_init_from_reader: invalid magic characters: 'this', expected 'GGUF'\n",
        "cannot load the model: its file is not a GGUF file",
    ),
    "empty": (
        "0.00.013.620 E gguf_init_from_reader: failed to read magic\n",
        "cannot load the model: its file is empty; pull it again",
    ),
    "too new": (
        (
            "0.00.015.672 E gguf_init_from_reader: this GGUF file is version 99 but this software only supports up to "
            "version 3\n0.00.015.710 E gguf_init_from_reader: failed to read header\n"
        ),
        "cannot load the model: its file has GGUF version 99, this image reads up to 3; use a newer image",
    ),
    "unknown architecture": (
        "0.00.012.279 E llama_model_load: error loading model: unknown model architecture: 'llamx'\n",
        "cannot load the model: this image does not know the architecture llamx; use a newer image",
    ),
    "a projector": (
        (
            "0.00.012.849 E llama_model_load: error loading model: CLIP cannot be used as main model, use it with "
            "--mmproj instead\n"
        ),
        "cannot load the model: its file is a vision projector; choose the model that it belongs to",
    ),
    "no tokenizer": (
        (
            "0.00.012.207 E llama_model_load: error loading model: error loading model vocabulary: key not found in "
            "model: tokenizer.ggml.model\n"
        ),
        "cannot load the model: error loading model vocabulary: key not found in model: tokenizer.ggml.model",
    ),
    "a tensor is missing": (
        (
            "0.00.014.230 E llama_model_load: error loading model: check_tensor_dims: tensor 'blk.1.attn_q.weight' not "
            "found\n"
        ),
        "cannot load the model: check_tensor_dims: tensor 'blk.1.attn_q.weight' not found",
    ),
    "wrong projector": (
        (
            "0.00.013.328 E mtmd_get_memory_usage: error: Failed to load CLIP model from /models/mmproj/p.gguf\n\n"
            "0.00.013.373 E srv    load_model: [mtmd] failed to get memory usage of mmproj\n"
        ),
        "cannot load the vision projector p.gguf",
    ),
    "missing projector": (
        (
            "0.00.013.875 E gguf_init_from_file: failed to open GGUF file '/models/mmproj/p.gguf' (No such file or "
            "directory)\n"
            "0.00.013.966 E mtmd_get_memory_usage: error: Failed to load CLIP model from /models/mmproj/p.gguf\n"
        ),
        "cannot open the model file p.gguf: No such file or directory",
    ),
}

ARGUMENT_FAILURES = {
    "ERROR (catatonit:6): failed to exec pid1: No such file or directory\n": (
        "cannot start: the image's program cannot be run: No such file or directory"
    ),
    "error: invalid argument: --no-such-flag\n": (
        "cannot start: this image does not know the argument --no-such-flag; see extra_args"
    ),
    'error while handling argument "-fa": expected value for argument\n\nusage:\n-fa,   --flash-attn [on|off|auto]\n': (
        "cannot start: argument -fa: expected value for argument"
    ),
    'error while handling argument "--device": invalid device: Vulkan0\n\nusage:\n': (
        "cannot start: the image does not find the device Vulkan0"
    ),
    "error while handling argument \"--api-key-file\": error: failed to open file '/none'\n\n\nusage:\n": (
        "cannot start: argument --api-key-file: failed to open file '/none'"
    ),
    "error: the supplied chat template is not supported: {% bad\n\n0.00.000.891 E common_chat_templates_init: error: "
    "Unknown statement: bad\n": "cannot start: the chat template cannot be used",
}

MEMORY = """\
0.00.191.977 E ggml_aligned_malloc: insufficient memory (attempted to allocate 976.56 MB)
0.00.191.989 E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1024000000
0.00.205.739 E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache
0.00.205.775 E srv    load_model: failed to create_context with model '/models/m.gguf'
"""
BUSY = """\
0.00.011.103 E srv         start: couldn't bind HTTP server socket, hostname: 0.0.0.0, port: 8080
0.00.011.129 I srv    operator(): operator(): cleaning up before exit...
0.00.011.200 E srv  llama_server: exiting due to HTTP server error
"""
SERVED = """\
0.02.027.617 W srv    operator(): unauthorized: Invalid API Key
0.02.039.836 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0
"""


def verdict(
    code: int | None, log: str = "", *, oom: bool = False, wanted: bool = False, warmed: bool = False
) -> Verdict:
    return LlamaCpp().classify(Exit(code, oom, wanted, warmed, tuple(log.splitlines())))


@pytest.mark.parametrize("case", ["missing", "cut short", "no gguf", "empty", "a projector"])
def test_a_wrong_file_is_not_cured_by_another_start(case: str) -> None:
    text = LOADING_FAILURES[case][0]
    found = verdict(1, HEAD + text + TAIL)
    assert not found.curable
    assert found.line in [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("text", [LOADING_FAILURES["unknown architecture"][0], MEMORY, *ARGUMENT_FAILURES])
def test_the_decisive_line_is_kept_and_another_start_may_do_better(text: str) -> None:
    found = verdict(1, HEAD + text)
    assert found.curable
    assert found.line == text.splitlines()[0].strip()


def said(found: Verdict) -> tuple[FailureClass, str, str]:
    return found.failure_class, found.code, found.message


@pytest.mark.parametrize("case", LOADING_FAILURES)
def test_a_model_that_cannot_be_loaded_is_permanent_and_says_why(case: str) -> None:
    cause, message = LOADING_FAILURES[case]
    assert said(verdict(1, HEAD + cause + FIT + cause + TAIL)) == (PERMANENT, "slot.load_failed", message)


@pytest.mark.parametrize("log", ARGUMENT_FAILURES)
def test_a_bad_argument_is_permanent_and_named(log: str) -> None:
    assert said(verdict(1, log)) == (PERMANENT, "slot.load_failed", ARGUMENT_FAILURES[log])


def test_too_little_memory_is_transient_and_counted_as_memory() -> None:
    found = verdict(1, HEAD + MEMORY + TAIL)
    assert (found.failure_class, found.code) == (TRANSIENT, "slot.memory_budget")
    assert "insufficient memory (attempted to allocate 976.56 MB)" in found.message


def test_a_taken_port_is_transient() -> None:
    found = verdict(1, HEAD + BUSY)
    assert said(found) == (TRANSIENT, "slot.port_taken", "cannot listen on 0.0.0.0 port 8080: it is taken")


@pytest.mark.parametrize(
    ("code", "oom", "failure_class", "error", "word"),
    [
        (132, False, PERMANENT, "slot.load_failed", "SIGILL"),
        (137, True, TRANSIENT, "slot.memory_budget", "memory limit"),
        (137, False, TRANSIENT, "slot.load_failed", "SIGKILL"),
        (139, False, TRANSIENT, "slot.load_failed", "SIGSEGV"),
        (134, False, TRANSIENT, "slot.load_failed", "SIGABRT"),
        (143, False, TRANSIENT, "slot.load_failed", "SIGTERM"),
        (127, False, PERMANENT, "slot.load_failed", "not there"),
        (126, False, PERMANENT, "slot.load_failed", "cannot be run"),
        (0, False, TRANSIENT, "slot.load_failed", "exit code 0"),
        (3, False, TRANSIENT, "slot.load_failed", "exit code 3"),
        (None, False, TRANSIENT, "slot.load_failed", "without an exit code"),
    ],
)
def test_exit_codes(code: int | None, oom: bool, failure_class: FailureClass, error: str, word: str) -> None:
    found = verdict(code, HEAD, oom=oom)
    assert (found.failure_class, found.code) == (failure_class, error)
    assert word in found.message


def test_a_missing_library_is_permanent() -> None:
    log = "llama-server: error while loading shared libraries: libvulkan.so.1: cannot open shared object file\n"
    assert verdict(127, log).message == "cannot start: the image lacks the library libvulkan.so.1"


def test_a_server_that_had_been_ready_exited_rather_than_failed_to_load() -> None:
    found = verdict(139, SERVED, warmed=True)
    assert (found.failure_class, found.code) == (TRANSIENT, "slot.exited")
    assert found.message.endswith("SIGSEGV: slot launch_slot_: id  0 | task 0 | processing task, is_child = 0")


def test_after_ready_a_loading_line_in_the_log_decides_nothing() -> None:
    assert verdict(1, MISSING + SERVED, warmed=True).failure_class is TRANSIENT


def test_an_unknown_error_shows_its_first_line_while_starting_and_its_last_after() -> None:
    log = "0.00.1 E ggml_x: first thing\n0.00.2 E srv  load_model: second thing\n"
    assert verdict(1, log).message.endswith("ggml_x: first thing")
    assert verdict(1, log, warmed=True).message.endswith("load_model: second thing")


@pytest.mark.parametrize("code", [0, 1, 137, 143])
def test_a_wanted_stop_is_no_failure_of_the_model(code: int) -> None:
    assert verdict(code, HEAD, wanted=True) == Verdict(TRANSIENT, "slot.exited", "stopped as asked")
