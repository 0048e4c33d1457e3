"""`make dev`: the server restarts when the code changes, and only then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kataven.dev.embedded.errors import DevError
from kataven.dev.reloading import CodeWatch, ReloadingServer

pytestmark = pytest.mark.processes


class Server:
    """Records what happens to it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.problem: DevError | None = None
        self.start_problem: DevError | None = None

    def start(self) -> None:
        self.calls.append("start")

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def stop(self) -> None:
        self.calls.append("stop")

    def wait_until_ready(self) -> None:
        if self.start_problem is not None:
            raise self.start_problem


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file in a package in the watched folder."""
    code = tmp_path / "package" / "code.py"
    code.parent.mkdir()
    code.write_text("first")
    return code


def touch(path: Path) -> None:
    """Change a file, even if the clock has not advanced since the last change."""
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later, later))


def started(folder: Path) -> tuple[Server, ReloadingServer]:
    server = Server()
    reloading = ReloadingServer("the server", server, server.wait_until_ready, CodeWatch([folder]))
    reloading.start()
    return server, reloading


def checks(reloading: ReloadingServer) -> None:
    for _ in range(3):
        reloading.check()


def test_changed_new_and_removed_files_restart_the_server_once_each(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, reloading = started(tmp_path)
    checks(reloading)
    assert server.calls == ["start"]
    touch(code)
    checks(reloading)
    assert server.calls == ["start", "stop", "start"]
    assert capsys.readouterr().out == f"{code} has changed, restarting the server\nthe server has restarted\n"
    page = tmp_path / "package" / "page.html"
    page.write_text("new")
    checks(reloading)
    assert server.calls == ["start", "stop", "start", "stop", "start"]
    page.unlink()
    checks(reloading)
    assert server.calls == ["start", "stop", "start"] + 2 * ["stop", "start"]


def test_other_files_restart_nothing(code: Path, tmp_path: Path) -> None:
    server, reloading = started(tmp_path)
    (tmp_path / "package" / "code.cpython-311.pyc").write_text("bytecode")
    (tmp_path / "package" / "notes.txt").write_text("notes")
    checks(reloading)
    assert server.calls == ["start"]


def test_restart_waits_until_the_files_stop_changing(code: Path, tmp_path: Path) -> None:
    server, reloading = started(tmp_path)
    for _ in range(3):
        touch(code)
        reloading.check()
    assert server.calls == ["start"]
    reloading.check()
    assert server.calls == ["start", "stop", "start"]


def test_code_that_does_not_start_is_reported_and_the_next_change_starts_it(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, reloading = started(tmp_path)
    server.start_problem = DevError("the server exited unexpectedly")
    touch(code)
    checks(reloading)
    assert server.calls == ["start", "stop", "start", "stop"]
    assert capsys.readouterr().err == ("the server exited unexpectedly\nThe next change starts the server again.\n")
    server.start_problem = None
    touch(code)
    checks(reloading)
    assert server.calls[4:] == ["stop", "start"]


def test_exit_without_a_change_ends_the_run(code: Path, tmp_path: Path) -> None:
    server, reloading = started(tmp_path)
    server.problem = DevError("the server exited unexpectedly")
    with pytest.raises(DevError, match="exited unexpectedly"):
        reloading.check()


def test_first_start_that_fails_ends_the_run(tmp_path: Path) -> None:
    server = Server()
    server.start_problem = DevError("the server exited unexpectedly")
    with pytest.raises(DevError):
        ReloadingServer("the server", server, server.wait_until_ready, CodeWatch([tmp_path])).start()
