"""Why an engine ended, as far as its exit code tells: the part that is the same for every provider."""

from collections.abc import Callable, Iterable
from typing import Final

from hal0.providers.base import Exit, Verdict
from hal0.vocab import FailureClass

_PERMANENT: Final = FailureClass.PERMANENT
_TRANSIENT: Final = FailureClass.TRANSIENT
# 128 + signal, as the engine of containers reports it.
_SIGNALS: Final = {129: "SIGHUP", 130: "SIGINT", 134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}
_ILLEGAL_INSTRUCTION: Final = 132
_KILLED: Final = 137
_NOT_STARTED: Final = {126: "cannot be run", 127: "is not there"}


def verdict(
    ended: Exit,
    decisive: Callable[[Iterable[str]], Verdict | None],
    last_words: Callable[[Exit], tuple[str, str]],
) -> Verdict:
    """Class, code and one sentence. Unknown ends are transient: trying again does less harm than resting.

    `decisive` is the provider's reading of a log that ends before the engine was ready; `last_words` gives the line
    to quote, as it stands in the log and as people read it.
    """
    code = "slot.exited" if ended.warmed else "slot.load_failed"
    if ended.wanted:
        return Verdict(_TRANSIENT, "slot.exited", "stopped as asked")
    if ended.oom_killed:
        said = "cannot go on: killed because the memory limit was reached"
        return Verdict(_TRANSIENT, "slot.memory_budget", said)
    if ended.exit_code == _ILLEGAL_INSTRUCTION:
        return Verdict(_PERMANENT, code, "cannot run on this CPU: the image needs instructions that it lacks (SIGILL)")
    if ended.exit_code == _KILLED:
        return Verdict(_TRANSIENT, code, "cannot go on: killed from outside (SIGKILL), perhaps for lack of memory")
    if not ended.warmed and (known := decisive(ended.log_tail)) is not None:
        return known
    if ended.exit_code in _NOT_STARTED:
        return Verdict(_PERMANENT, code, f"cannot start: the program {_NOT_STARTED[ended.exit_code]} in the image")
    line, said = last_words(ended)
    how = f"cannot go on: the engine ended {_manner(ended.exit_code)}"
    return Verdict(_TRANSIENT, code, f"{how}: {said}" if said else how, line or None)


def _manner(exit_code: int | None) -> str:
    if exit_code is None:
        return "without an exit code"
    signal = _SIGNALS.get(exit_code)
    return f"by {signal}" if signal else f"with exit code {exit_code}"
