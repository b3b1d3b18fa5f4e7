"""Why a llama-server ended: its exit code and the first decisive line of its log, turned into a verdict.

The server prints one cause and then several lines that only repeat that it failed, so the first line that a
rule knows decides. The texts are those of build 11669; the samples in the tests were recorded from it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hal0.providers import exits
from hal0.providers.base import Exit, Verdict
from hal0.vocab import FailureClass

_PERMANENT: Final = FailureClass.PERMANENT
_TRANSIENT: Final = FailureClass.TRANSIENT


@dataclass(frozen=True, slots=True)
class _Rule:
    """A line that matches means `message`, formatted with the groups of the match."""

    pattern: re.Pattern[str]
    message: str
    failure_class: FailureClass = _PERMANENT
    code: str = "slot.load_failed"
    curable: bool = True


def _rule(
    pattern: str, message: str, failure_class: FailureClass = _PERMANENT, code: str = "slot.load_failed"
) -> _Rule:
    return _Rule(re.compile(pattern), message, failure_class, code)


def _wrong_file(pattern: str, message: str) -> _Rule:
    """No image, device or context makes another file of it."""
    return _Rule(re.compile(pattern), message, curable=False)


_MEMORY: Final = "slot.memory_budget"

# Tried in this order on each line; the generic ones come last.
_RULES: Final = (
    _wrong_file(r"failed to open GGUF file '(?:.*/)?(.+)' \((.+)\)", "cannot open the model file {0}: {1}"),
    _wrong_file(
        r"data is not within the file bounds",
        "cannot load the model: its file is damaged or cut short; pull it again",
    ),
    _wrong_file(r"invalid magic characters", "cannot load the model: its file is not a GGUF file"),
    _wrong_file(r"failed to read magic", "cannot load the model: its file is empty; pull it again"),
    _rule(
        r"this GGUF file is version (\d+) but this software only supports up to version (\d+)",
        "cannot load the model: its file has GGUF version {0}, this image reads up to {1}; use a newer image",
    ),
    _rule(
        r"unknown model architecture: '(.+)'",
        "cannot load the model: this image does not know the architecture {0}; use a newer image",
    ),
    _wrong_file(
        r"CLIP cannot be used as main model",
        "cannot load the model: its file is a vision projector; choose the model that it belongs to",
    ),
    _rule(r"[Ff]ailed to load CLIP model from (?:.*/)?(\S+?)\.?(?:\s|$)", "cannot load the vision projector {0}"),
    _rule(
        r"insufficient memory|failed to allocate|unable to allocate|out of memory|OutOfDeviceMemory",
        "cannot load the model: not enough memory ({line}); lower context_size or free memory",
        _TRANSIENT,
        _MEMORY,
    ),
    _rule(r"error: invalid argument: (\S+)", "cannot start: this image does not know the argument {0}; see extra_args"),
    _rule(
        r'error while handling argument "(.+)": invalid device: (.+)',
        "cannot start: the image does not find the device {1}",
    ),
    _rule(r'error while handling argument "(.+)": (?:error: )?(.+)', "cannot start: argument {0}: {1}"),
    _rule(
        r"couldn't bind HTTP server socket, hostname: (.+), port: (\d+)",
        "cannot listen on {0} port {1}: it is taken",
        _TRANSIENT,
        "slot.port_taken",
    ),
    _rule(
        r"the supplied chat template is not supported|failed to initialize chat template",
        "cannot start: the chat template cannot be used",
    ),
    _rule(r"failed to exec pid1: (.+)", "cannot start: the image's program cannot be run: {0}"),  # the init's word
    _rule(r"error while loading shared libraries: (.+?):", "cannot start: the image lacks the library {0}"),
    _rule(r"(?:GGML_ASSERT|GGML_ABORT)\((.+)\) failed", "cannot go on: the engine found itself wrong: {0}", _TRANSIENT),
    _rule(r"error loading model: (.+)", "cannot load the model: {0}"),
)

_ERROR_LINE: Final = re.compile(r"^[\d.]+ E ")
_TIME_AND_LEVEL: Final = re.compile(r"^[\d.]+ (?:E (?:\w+ )?|[WI] ) *")


def verdict(ended: Exit) -> Verdict:
    """Class, code and one sentence."""
    return exits.verdict(ended, _decisive, _last_words)


def _decisive(log: Iterable[str]) -> Verdict | None:
    for line in log:
        for rule in _RULES:
            if match := rule.pattern.search(line):
                message = rule.message.format(*match.groups(), line=_TIME_AND_LEVEL.sub("", line).strip())
                return Verdict(rule.failure_class, rule.code, message, line.strip(), rule.curable)
    return None


def _last_words(ended: Exit) -> tuple[str, str]:
    """While starting the first error is the cause; a server that ran long ended with the last one."""
    said = [line.strip() for line in ended.log_tail if line.strip()]
    if errors := [line for line in said if _ERROR_LINE.match(line)]:
        words = errors[-1] if ended.warmed else errors[0]
    else:
        words = said[-1] if said else ""
    return words, _TIME_AND_LEVEL.sub("", words)
