"""A server as a child process: it is started, watched, and gone when we are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kataven.dev import launch
from kataven.dev.errors import DevError
from kataven.dev.leftovers import Mark

STOP_SECONDS = 5.0
QUIT_SECONDS = 5.0
TAIL_LINES = 5


class Child:
    """A program that runs in a process group of its own, so that Ctrl-C reaches only us and we end it in our order.

    It dies with the thread that starts it (on Linux), which should therefore be the main one. Output goes to `log`, or
    to the terminal; the files that it makes are private. `mark` recognises its processes, `uid` is the user it runs as.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        mark: Mark,
        environ: Mapping[str, str],
        folder: Path,
        log: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        uid: int | None = None,
    ) -> None:
        self._name = name
        self._command = through_launcher(command, stop_signal, uid)
        self._mark = mark
        self._environ = dict(environ)
        self._folder = folder
        self._log = log
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it is started; the program keeps the one that the launcher had."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; to wait until it serves, use `wait_until`. Raises DevError when the log can't be written."""
        output = _open_log(self._log) if self._log else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own servers; no shell
                self._command,
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                umask=0o077,
            )
        finally:
            if output is not None:
                os.close(output)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return as soon as `ready()`. Raises DevError if the process ends first, or isn't ready after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DevError(f"{self._name} is not ready after {seconds:.0f} s{self._tail()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise DevError, with the end of its log, if the process has ended."""
        if self._process is not None and (status := self._process.poll()) is not None:
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            raise DevError(f"{self._name} ended by itself ({how}){self._tail()}")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it, and whatever is left of its workers; less and less gently after `seconds`. May be repeated."""
        if self._process is None:
            return
        # SIGQUIT means "at once" to PostgreSQL and to gunicorn, which can lose a SIGTERM on its way to a new worker.
        for number, patience in ((self._stop_signal, seconds), (signal.SIGQUIT, QUIT_SECONDS), (signal.SIGKILL, None)):
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                break
        self._process = None
        self._mark.end(signal.SIGKILL, 0)

    def _tail(self) -> str:
        if self._log is None or not self._log.exists():
            return ""
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return f"; the end of {self._log}:" + "".join(f"\n  {line}" for line in lines)


def through_launcher(command: Sequence[str | Path], death_signal: signal.Signals, uid: int | None) -> list[str]:
    """The command line that runs `command` as `uid` (None: as we are) and sends it `death_signal` when we end."""
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    user = "-" if uid is None else str(uid)
    return [*launcher, str(os.getpid()), str(int(death_signal)), user, *map(str, command)]


def _open_log(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DevError(f"cannot write {path}: {error.strerror}") from error
