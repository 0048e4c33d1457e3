"""A server as a child process: started, watched, and stopped when this process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from kataven.dev.embedded import launch
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.processes import Mark

STOP_SECONDS = 5.0
QUIT_SECONDS = 5.0
TAIL_LINES = 5


@dataclass
class Child:
    """A program in its own process group, so that Ctrl-C reaches only this process, which stops its servers in order.

    On Linux it receives `stop_signal` when the thread that started it ends, so start it from the main thread.
    Files that it creates are private.
    """

    name: str
    command: Sequence[str | Path]
    _: KW_ONLY
    mark: Mark
    """Recognizes the program's processes, workers included."""
    environ: Mapping[str, str]
    folder: Path
    log: Path | None = None
    """Receives the output. None: the terminal does."""
    stop_signal: signal.Signals = signal.SIGTERM
    uid: int | None = None
    """The user that runs the program. None: the current user."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The process id after `start`. The program keeps the launcher's id."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the program without waiting until it serves. Raises DevError if the log cannot be written."""
        output = _open_log(self.log) if self.log else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own servers; no shell
                launcher_command(self.command, self.stop_signal, self.uid),
                cwd=self.folder,
                env=self.environ,
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
        """Return as soon as `ready()`. Raises DevError if the process exits first, or is not ready after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DevError(f"{self.name} is not ready after {seconds:.0f} s{self._log_tail()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise DevError, with the end of the log, if the process has exited."""
        if self._process is not None and (status := self._process.poll()) is not None:
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            raise DevError(f"{self.name} exited unexpectedly ({how}){self._log_tail()}")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop the process and its remaining workers, by force after `seconds`. May be called repeatedly."""
        if self._process is None:
            return
        # For PostgreSQL and gunicorn, SIGQUIT means "immediately". gunicorn can lose a SIGTERM while it forks a worker.
        for number, timeout in ((self.stop_signal, seconds), (signal.SIGQUIT, QUIT_SECONDS), (signal.SIGKILL, None)):
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
                break
        self._process = None
        self.mark.stop_all(signal.SIGKILL, 0)

    def _log_tail(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return f"; the end of {self.log}:" + "".join(f"\n  {line}" for line in lines)


def launcher_command(command: Sequence[str | Path], death_signal: signal.Signals, uid: int | None) -> list[str]:
    """The command line that runs `command` as `uid` and sends it `death_signal` when this process ends."""
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    user = "-" if uid is None else str(uid)
    return [*launcher, str(os.getpid()), str(int(death_signal)), user, *map(str, command)]


def _open_log(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DevError(f"cannot write {path}: {error.strerror}") from error
