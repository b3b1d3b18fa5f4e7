"""Why FLM ended: its exit code and the first decisive line of its log, turned into a verdict. Pure."""

import re
from typing import Final, NamedTuple

from hal0.providers.base import Exit, Verdict
from hal0.vocab import FailureClass

_PERMANENT, _TRANSIENT = FailureClass.PERMANENT, FailureClass.TRANSIENT
_LOAD, _EXITED = "slot.load_failed", "slot.exited"
_NOT_STARTED: Final = {126: "cannot be run", 127: "is not there"}


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    message: str
    failure_class: FailureClass
    code: str
    curable: bool


def _rule(
    pattern: str,
    message: str,
    failure_class: FailureClass = _PERMANENT,
    code: str = _LOAD,
    *,
    curable: bool = True,
) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), message, failure_class, code, curable)


# FLM's own words where it has some; else those of the loader, the kernel and the libraries that it is built on.
_RULES: Final = (
    _rule(r"model not found", "cannot load the model: FLM does not know it", curable=False),
    _rule(r"error while loading shared libraries", "cannot start: the image lacks a library"),
    _rule(r"unrecogni[sz]ed option|unknown option", "cannot start: FLM does not know an argument, see extra_args"),
    _rule(r"address already in use", "cannot listen: its port is taken", _TRANSIENT, "slot.port_taken"),
    _rule(
        r"memlock|mlock|cannot allocate memory|bad_alloc",
        "cannot load the model: not enough memory that may be pinned",
        _TRANSIENT,
        "slot.memory_budget",
    ),
    _rule(r"no such device|/dev/accel.*(?:no such|denied)", "cannot reach the NPU", _PERMANENT, "device.permission"),
)


def verdict(ended: Exit) -> Verdict:
    """Class, code and one sentence. Unknown ends are transient: trying again does less harm than resting."""
    code = _EXITED if ended.warmed else _LOAD
    if ended.wanted:
        return Verdict(_TRANSIENT, _EXITED, "stopped as asked")
    if ended.oom_killed:
        return Verdict(_TRANSIENT, "slot.memory_budget", "cannot go on: killed because the memory limit was reached")
    if ended.exit_code in _NOT_STARTED:
        return Verdict(_PERMANENT, code, f"cannot start: the program {_NOT_STARTED[ended.exit_code]} in the image")
    for line in () if ended.warmed else ended.log_tail:
        if rule := next((rule for rule in _RULES if rule.pattern.search(line)), None):
            said = line.strip()
            return Verdict(rule.failure_class, rule.code, f"{rule.message} ({said})", said, rule.curable)
    last = next((line.strip() for line in reversed(ended.log_tail) if line.strip()), None)
    how = "without an exit code" if ended.exit_code is None else f"with exit code {ended.exit_code}"
    return Verdict(_TRANSIENT, code, f"cannot go on: FLM ended {how}" + (f": {last}" if last else ""), last)
