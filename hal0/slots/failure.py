"""Failures in the slot's words: from errors, from exits, from deadlines. Pure."""

import signal
from typing import Final

from hal0.engine.errors import HostRefused
from hal0.errors import Hal0Error
from hal0.providers.base import Exit, Verdict
from hal0.slots.record import Container, Failure, SwapStep
from hal0.vocab import FailureClass, Phase

# Nothing about these changes by waiting; everything else is tried again on the restart curve.
_PERMANENT: Final = frozenset(
    {
        "model.not_found",
        "model.not_downloaded",
        "model.checksum",
        "model.unsafe_format",
        "slot.no_model",
        "slot.load_failed",
        "slot.memory_budget",  # unless somebody is in the way who may leave
        "slot.npu_exclusive",
        "dispatch.capability_mismatch",
        "config.invalid",  # the model's defaults
        "image.missing",
        "image.not_found",
        "image.digest_mismatch",
        "image.build_failed",
        "image.unfit",
        "device.missing",
        "engine.not_podman",
        "device.permission",
        "pull.gated",
        "pull.address_refused",
        "pull.disk_full",
    }
)
# Errors of hal0's own that another image, device or context may avoid.
_CURABLE: Final = frozenset(
    {
        "slot.load_failed",
        "slot.memory_budget",
        "slot.npu_exclusive",
        "image.missing",
        "image.not_found",
        "image.digest_mismatch",
        "image.build_failed",
        "image.unfit",
        "device.missing",
        "device.permission",
    }
)
PORT_LOST: Final = "slot.port_lost"
# What a shell and podman add to a signal's number in an exit code.
_SIGNAL_BASE: Final = 128


def of_error(error: Hal0Error, now: float) -> Failure:
    """An effect ended with this error."""
    permanent = error.code in _PERMANENT or isinstance(error, HostRefused)
    permanent = permanent and not error.details.get("blocked_by")
    failure_class = FailureClass.PERMANENT if permanent else FailureClass.TRANSIENT
    curable = error.code in _CURABLE or isinstance(error, HostRefused)
    return Failure(failure_class, error.code, error.message, now, curable=curable, details=error.details)


def of_exit(ended: Exit, verdict: Verdict, container: Container, evidence: str, now: float) -> Failure:
    """A container ended and its evidence was read; `evidence` is what the verdict on memory rests on."""
    return Failure(
        verdict.failure_class,
        verdict.code,
        verdict.message,
        now,
        exit_code=ended.exit_code,
        signal=signal_name(ended.exit_code),
        oom=ended.oom_killed,
        evidence=evidence or None,
        model=container.model,
        spec_hash=container.spec_hash,
        line=verdict.line,
        log_tail=ended.log_tail,
        curable=verdict.curable,
    )


def provisional(now: float) -> Failure:
    """A container is gone; why is still to be read."""
    return Failure(
        FailureClass.TRANSIENT,
        "slot.exited",
        "the engine stopped unexpectedly; reading its exit code and log",
        now,
        settled=False,
    )


def vanished(now: float) -> Failure:
    """A container is gone together with its evidence: somebody removed it."""
    text = "the container was removed by somebody else"
    return Failure(FailureClass.TRANSIENT, "slot.exited", text, now, curable=False)


def of_deadline(phase: Phase | SwapStep, limit_s: float, now: float) -> Failure:
    text = f"cannot finish {phase}: it took longer than {limit_s:.0f} s"
    return Failure(FailureClass.TRANSIENT, "slot.deadline", text, now)


def broken(evidence: str, now: float) -> Failure:
    """The engine answers, and can never become ready."""
    return Failure(FailureClass.PERMANENT, "slot.load_failed", evidence, now)


def unresponsive(evidence: str, now: float) -> Failure:
    """The process lives and does not answer any more."""
    return Failure(FailureClass.TRANSIENT, "slot.exited", f"the engine stopped answering: {evidence}", now)


def waits_for_engine(failure: Failure | None) -> bool:
    """The attempt failed on the engine alone: its return is reason enough to try again."""
    if failure is None or failure.failure_class is FailureClass.PERMANENT:
        return False
    return failure.code.startswith("engine.")


def unable(evidence: str, now: float) -> Failure:
    """The engine says that it is ready, and cannot do its work."""
    text = f"the engine is healthy, and cannot work: {evidence}"
    return Failure(FailureClass.TRANSIENT, "slot.load_failed", text, now)


def port_lost(evidence: str, now: float) -> Failure:
    """The process lives, and new connections do not reach it."""
    text = f"the engine runs, and its port leads nowhere: {evidence}"
    return Failure(FailureClass.TRANSIENT, PORT_LOST, text, now, curable=False)


def streams_go_on(fault: Failure) -> bool:
    """Requests that are already in the container may still end well: only new ones cannot get in."""
    return fault.code == PORT_LOST


def waits_for_room(failure: Failure | None, *, anew: bool) -> bool:
    """The attempt failed for lack of memory, or of the GPU; `anew`: also one that could not have hoped."""
    if failure is None or failure.code not in ("slot.memory_budget", "slot.npu_exclusive", "gpu.image_mode"):
        return False
    return anew or failure.failure_class is FailureClass.TRANSIENT


def signal_name(exit_code: int | None) -> str | None:
    """SIGKILL for 137; None when the code is no signal's."""
    if exit_code is None or exit_code <= _SIGNAL_BASE:
        return None
    try:
        return signal.Signals(exit_code - _SIGNAL_BASE).name
    except ValueError:
        return None


def signal_words(exit_code: int | None) -> str | None:
    """What that signal means, such as `segmentation fault`; None when the code is no signal's."""
    if signal_name(exit_code) is None or exit_code is None:
        return None
    return (signal.strsignal(exit_code - _SIGNAL_BASE) or "").lower() or None


def error_of(failure: Failure, slot: str) -> Hal0Error:
    """The error that a job or a request gets for this failure."""
    details = failure.details | {
        "slot": slot,
        "class": failure.failure_class,
        "exit_code": failure.exit_code,
        "signal": failure.signal,
        "log_tail": list(failure.log_tail[-8:]),
    }
    return Hal0Error(failure.code, f"slot {slot}: {failure.message}", details=details)
