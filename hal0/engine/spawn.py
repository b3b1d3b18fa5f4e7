"""Run as a script: become a command that ends with its parent, in a session of its own.

    python -I -S spawn.py PARENT_PID COMMAND [ARGS...]

The kernel sends SIGTERM when the parent dies, however it dies. Imports nothing of hal0: it is on the way of every
start, and its interpreter is replaced at once.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(argv: list[str]) -> None:
    parent, command = int(argv[1]), argv[2:]
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask for a parent-death signal")
    if os.getppid() != parent:
        sys.exit(0)  # it died before the kernel knew of our wish
    os.execvp(command[0], command)  # noqa: S606  that is what this script is for


if __name__ == "__main__":
    main(sys.argv)
