"""A process of an engine, and the folder that all engines of a row share."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kataven.dev.embedded.child import launcher_command

STOP_SECONDS = 10.0
LOG_TAIL = 1_500


def unprivileged_uid() -> int | None:
    """For root, the user that runs PostgreSQL, Patroni and PgBouncer, which refuse to run as root. Otherwise None."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def engine_folder() -> Path:
    """A new temporary folder that the unprivileged user can enter. It can't be listed."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-topologies-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    return folder


def private_to(path: Path, uid: int | None) -> Path:
    """Make `uid` the owner of `path`, with access for no other user."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if uid is not None:
        os.chown(path, uid, uid)
    return path


class EngineProcess:
    """Starts a program that ends with this process. To be started from the main thread (see PR_SET_PDEATHSIG)."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        *,
        name: str,
        uid: int | None = None,
        environ: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._folder = folder
        self._uid = uid
        self._environ = {"PATH": os.defpath, "LC_ALL": "C", **(environ or {})}
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launcher_command(self._command, signal.SIGKILL, self._uid),
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Raise RuntimeError, with the end of the log, if the process has ended."""
        if not self.is_running():
            raise RuntimeError(f"{self.name} has ended: {self.tail()}")

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.exists() else ""

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self) -> None:
        """Stop the process, by force after some seconds. May be called repeatedly, and for a paused process."""
        if self._process is None:
            return
        self.resume()
        self.send(self._stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None
