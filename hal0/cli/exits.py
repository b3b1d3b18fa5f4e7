"""The exit codes of `hal0ctl` and which failure ends with which."""

from enum import IntEnum
from typing import Final

from hal0.client import ApiError, ClientError, Unreachable

STILL_RUNNING: Final = "cli.timeout"  # the wait is over, the work is not


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    REFUSED = 6
    TIMED_OUT = 7
    PARTLY = 8
    CHECK_FAILED = 9
    INTERRUPTED = 130


MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage",
    Exit.UNREACHABLE: "hal0 not reachable",
    Exit.NOT_ALLOWED: "not signed in or not allowed",
    Exit.NOT_FOUND: "not found",
    Exit.REFUSED: "refused by state or budget (conflict, in use, does not fit, invalid config)",
    Exit.TIMED_OUT: "timed out; the operation continues, its id is printed",
    Exit.PARTLY: "partly done (batch), failures listed",
    Exit.CHECK_FAILED: "check failed (doctor, drill, slot is-ready, model verify, upstream test, status --exit-code)",
    Exit.INTERRUPTED: "interrupted",
}

# Codes whose HTTP status says less than they do: also in jobs and streams, where there is no status.
_REFUSED: Final = frozenset(
    {
        "config.invalid",
        "config.conflict",
        "slot.illegal_transition",
        "slot.reserved",
        "slot.exists",
        "slot.pinned",
        "slot.no_free_port",
        "slot.port_taken",
        "slot.no_model",
        "slot.npu_exclusive",
        "slot.memory_budget",
        "slot.offline",
        "model.in_use",
        "model.exists",
        "model.not_downloaded",
        "image.missing",
        "image.unfit",
        "device.missing",
        "device.permission",
        "pull.disk_full",
        "state.write_failed",
    }
)


def for_error(error: ClientError) -> Exit:
    """By code first, then by HTTP status."""
    if isinstance(error, Unreachable):
        return Exit.UNREACHABLE
    if error.code == STILL_RUNNING:
        return Exit.TIMED_OUT
    if error.code == "setup.incomplete":
        return Exit.PARTLY if error.details.get("done") else Exit.FAILED
    if error.code in _REFUSED:
        return Exit.REFUSED
    if error.code.startswith(("auth.", "access.")):
        return Exit.NOT_ALLOWED
    if error.code.endswith(".not_found") or error.code in ("dispatch.no_route", "client.no_context"):
        return Exit.NOT_FOUND
    if isinstance(error, ApiError):
        by_status = {
            401: Exit.NOT_ALLOWED,
            403: Exit.NOT_ALLOWED,
            404: Exit.NOT_FOUND,
            409: Exit.REFUSED,
            507: Exit.REFUSED,
        }
        return by_status.get(error.status, Exit.FAILED)
    return Exit.FAILED
