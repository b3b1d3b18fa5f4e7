"""What the providers of hal0's own engine servers (images/serving) have in common: command line and ends."""

import re
from collections.abc import Iterable
from typing import Final

from hal0.providers import exits
from hal0.providers.base import SECRET_FILE, Exit, Launch, Verdict
from hal0.vocab import FailureClass

_FAILED: Final = "slot.load_failed"
# The server says in one line what is wrong with a model (its exit status is 3), Python's parser what is wrong with an
# argument; anything else is the runtime's own word, somewhere in a traceback.
_WRONG_MODEL: Final = re.compile(r"^ERROR (cannot .+)")
_WRONG_ARGUMENT: Final = re.compile(r"^\S+: error: (.+)")
_NO_MEMORY: Final = re.compile(r"MemoryError|bad_alloc|Failed to allocate memory|out of memory", re.IGNORECASE)
_LEVEL: Final = re.compile(r"^(?:ERROR|WARNING|INFO) ")


def start_cmd(launch: Launch, model: str) -> list[str]:
    """`model` is the model's directory inside the container."""
    argv = ["--host", "0.0.0.0", "--port", str(launch.port), "--model", model]  # noqa: S104  inside the container
    return [*argv, "--alias", launch.model, "--api-key-file", SECRET_FILE, *launch.extra_args]


def classify(ended: Exit) -> Verdict:
    """Pure; `Provider.classify` of such a server."""
    return exits.verdict(ended, _decisive, _last_words)


def _decisive(log: Iterable[str]) -> Verdict | None:
    for line in map(str.strip, log):
        if match := _WRONG_MODEL.match(line):
            curable = not match[1].startswith("cannot load the model")
            return Verdict(FailureClass.PERMANENT, _FAILED, match[1], line, curable)
        if match := _WRONG_ARGUMENT.match(line):
            return Verdict(FailureClass.PERMANENT, _FAILED, f"cannot start: {match[1]}; see extra_args", line)
        if _NO_MEMORY.search(line):
            said = f"cannot load the model: not enough memory ({line}); free memory or raise memory_limit"
            return Verdict(FailureClass.TRANSIENT, "slot.memory_budget", said, line)
    return None


def _last_words(ended: Exit) -> tuple[str, str]:
    """A traceback ends with what went wrong."""
    said = [line.strip() for line in ended.log_tail if line.strip()]
    words = said[-1] if said else ""
    return words, _LEVEL.sub("", words)
