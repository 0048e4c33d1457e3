"""Become another program, as another user if told so, that ends when the process which asked for it ends.

Run by its path: `python -I -S launch.py PARENT_PID SIGNAL UID|- PROGRAM [ARGUMENT…]`. A step of its own between the
parent and the program, because Python code between fork and exec is unsafe as soon as the parent has threads, and
because changing the user clears the death signal (prctl(2), PR_SET_PDEATHSIG), so it has to be asked for after that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become_user(uid: int) -> None:
    """Give up root for `uid` and the group of the same number, with no other groups."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def die_with_parent(parent: int, death_signal: int) -> None:
    """Ask the kernel for `death_signal` when the thread that started this process ends. Linux only; elsewhere, nothing.

    Exits at once if `parent` is gone already: the kernel would then have nothing left to announce.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> None:
    """Carry out the command line; returns only by failing."""
    parent, death_signal, uid, *command = arguments
    if uid != "-":
        become_user(int(uid))
    die_with_parent(int(parent), int(death_signal))
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
