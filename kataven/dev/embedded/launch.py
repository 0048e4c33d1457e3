"""Becomes another program, optionally as another user, that receives a signal when the process that started it ends.

Run by path: `python -I -S launch.py PARENT_PID SIGNAL UID|- PROGRAM [ARGUMENT…]`. This is a separate step because
Python code between fork and exec is unsafe if the parent has threads. And changing the user clears the death signal
(prctl(2), PR_SET_PDEATHSIG), so the signal has to be set after that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, death_signal: int) -> None:
    """Set the signal that the kernel sends when the thread that started this process ends. Does nothing outside Linux.

    Exits if `parent` has ended already, because the kernel would send nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> None:
    """Run the command line. Returns only if that fails."""
    parent, death_signal, uid, *command = arguments
    if uid != "-":
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    die_with_parent(int(parent), int(death_signal))
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606 - deliberately without a shell
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
