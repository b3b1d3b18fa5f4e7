"""Why a ComfyUI server ended: its exit code and the first decisive line of its log, turned into a verdict. Pure."""

import re
from collections.abc import Iterable
from typing import Final

from hal0.providers import exits
from hal0.providers.base import Exit, Verdict
from hal0.vocab import FailureClass

_PERMANENT, _TRANSIENT = FailureClass.PERMANENT, FailureClass.TRANSIENT
_FAILED: Final = "slot.load_failed"

# Tried in this order on each line; what its parser, PyTorch and Python say.
_RULES: Final = (
    (re.compile(r"main\.py: error: (.+)"), _PERMANENT, _FAILED, "cannot start: {0}; see extra_args"),
    (
        re.compile(r"(No (?:HIP|CUDA) GPUs are available|Found no NVIDIA driver|not compiled with CUDA enabled)"),
        _PERMANENT,
        "device.permission",
        "cannot start: PyTorch finds no GPU ({0}); see hal0ctl doctor, or set device to cpu",
    ),
    (
        re.compile(r"(HIP error: invalid device function|no kernel image is available)"),
        _PERMANENT,
        _FAILED,
        "cannot start: this image has no code for this GPU ({0}); HSA_OVERRIDE_GFX_VERSION in the slot's env may help",
    ),
    (re.compile(r"(?:ModuleNotFound|Import)Error: (.+)"), _PERMANENT, _FAILED, "cannot start: the image lacks {0}"),
    (
        re.compile(r"(OutOfMemoryError|MemoryError|out of memory|can't allocate memory)"),
        _TRANSIENT,
        "slot.memory_budget",
        "cannot start: not enough memory ({0}); free some, or raise memory_limit",
    ),
    (
        re.compile(r"error while attempting to bind on address (.+?): "),
        _TRANSIENT,
        "slot.port_taken",
        "cannot listen on {0}: it is taken",
    ),
)
# A node file of its own whose library is not in the image fails alone; its traceback is no cause of anything.
_OPTIONAL: Final = re.compile(r"Cannot import .+ module for custom nodes|IMPORT FAILED")


def verdict(ended: Exit) -> Verdict:
    return exits.verdict(ended, _decisive, _last_words)


def _decisive(log: Iterable[str]) -> Verdict | None:
    """The last one: optional parts of the engine may have failed loudly, and without consequence, before."""
    found = None
    for line in log:
        if _OPTIONAL.search(line):
            found = None
        for pattern, failure_class, code, message in _RULES:
            if match := pattern.search(line):
                found = Verdict(failure_class, code, message.format(*match.groups()), line.strip())
                break
    return found


def _last_words(ended: Exit) -> tuple[str, str]:
    """A traceback ends with what went wrong."""
    said = [line.strip() for line in ended.log_tail if line.strip()]
    return (said[-1], said[-1]) if said else ("", "")
