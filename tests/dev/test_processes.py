"""Child processes, the launcher, and processes that an earlier run left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.dev.embedded.child import Child, launcher_command
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.processes import Mark, living_processes
from tests.support.servers import AS_ROOT, mode, wait_for_exit

pytestmark = pytest.mark.processes

MARK = Mark("a-server", "marked-5f3a")
IGNORES_TERM = "trap '' TERM; echo ready; while :; do sleep 1; done"


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Stops the children that a test appends."""
    appended: list[Child] = []
    yield appended
    for child in appended:
        child.stop(0)


def _child(folder: Path, script: str) -> Child:
    """A shell that runs `script`, with the name `a-server` in the list of processes."""
    shell = folder / "a-server"
    if not shell.exists():
        shell.symlink_to("/bin/sh")
    return Child(
        "the server",
        [shell, "-c", script, MARK.word],
        mark=MARK,
        environ={"PATH": os.defpath},
        folder=folder,
        log=folder / "server.log",
    )


def _logged(folder: Path, word: str) -> bool:
    return word in (folder / "server.log").read_text()


def test_child_is_started_checked_and_stopped(tmp_path: Path, children: list[Child]) -> None:
    child = _child(tmp_path, "echo ready; exec sleep 60")
    children.append(child)
    child.start()
    child.wait_until(lambda: _logged(tmp_path, "ready"), 30)
    child.check()
    pid = child.pid
    assert pid is not None
    child.stop()
    child.stop()
    assert pid not in {process.pid for process in living_processes()}
    assert mode(tmp_path / "server.log") == 0o600


def test_unexpected_exit_is_reported_with_the_end_of_the_log(tmp_path: Path, children: list[Child]) -> None:
    child = _child(tmp_path, "for line in 1 2 3 4 5 6 last; do echo line $line; done; exit 3")
    children.append(child)
    child.start()
    with pytest.raises(DevError) as ended:
        child.wait_until(lambda: False, 30)
    first, *tail = str(ended.value).splitlines()
    assert first == f"the server exited unexpectedly (exit status 3); the end of {tmp_path / 'server.log'}:"
    assert tail == ["  line 3", "  line 4", "  line 5", "  line 6", "  line last"]


def test_child_that_is_not_ready_in_time_is_reported(tmp_path: Path, children: list[Child]) -> None:
    child = _child(tmp_path, "exec sleep 60")
    children.append(child)
    child.start()
    with pytest.raises(DevError, match="the server is not ready after 0 s"):
        child.wait_until(lambda: False, 0)


def test_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    child = Child("it", [tmp_path / "none"], mark=MARK, environ={}, folder=tmp_path, log=tmp_path / "log")
    child.start()
    with pytest.raises(DevError, match=f"cannot run {tmp_path / 'none'}: No such file or directory"):
        child.wait_until(lambda: False, 30)
    child.stop()


def test_child_and_workers_that_ignore_signals_are_killed(tmp_path: Path, children: list[Child]) -> None:
    ignores_quit = IGNORES_TERM.replace("TERM", "TERM QUIT").replace("ready", "worker")
    worker = f'exec {tmp_path}/a-server -c "{ignores_quit}" {MARK.word}'
    child = _child(tmp_path, f"({worker}) & {IGNORES_TERM}")
    children.append(child)
    child.start()
    child.wait_until(lambda: _logged(tmp_path, "ready") and _logged(tmp_path, "worker"), 30)
    assert len(MARK.processes()) == 2
    child.stop(0)
    assert MARK.processes() == []


def test_files_that_a_child_creates_are_private(tmp_path: Path, children: list[Child]) -> None:
    child = _child(tmp_path, "echo secret > made; echo done; exec sleep 60")
    children.append(child)
    child.start()
    child.wait_until(lambda: _logged(tmp_path, "done"), 30)
    assert mode(tmp_path / "made") == 0o600


PARENT = """
import signal, subprocess, sys
from kataven.dev.embedded.child import launcher_command
child = subprocess.Popen(launcher_command(["/bin/sleep", "60"], signal.SIGTERM, None))
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the exit of a parent")
def test_launched_program_stops_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    wait_for_exit(pid)


def test_launcher_starts_nothing_if_the_parent_has_exited(tmp_path: Path) -> None:
    command = launcher_command(["/bin/touch", tmp_path / "made"], signal.SIGTERM, None)
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.run(command).returncode == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
def test_launcher_drops_root_and_its_groups() -> None:
    command = launcher_command(["/bin/sh", "-c", "id -u; id -g; id -G"], signal.SIGTERM, 65_525)
    shown = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert shown.stdout.split() == ["65525", "65525", "65525"]


def _waiting(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A process that waits, with this name and these arguments in the list of processes."""
    return subprocess.Popen([name, "-c", "read line", *arguments], executable="/bin/sh", stdin=subprocess.PIPE)


def test_mark_requires_program_and_word() -> None:
    lookalikes = [
        ("/bin/psql", "-h", "/run/marked-5f3a", "-d", "a-server"),
        ("/bin/a-server", "--name", "marked-5f3a-too"),
        ("/bin/a-server", "--name", "unmarked-5f3a"),
        ("/bin/a-server-exporter", "marked-5f3a"),
    ]
    real = [
        ("/bin/a-server", "--socket=/run/marked-5f3a/sock"),
        ("a-server: marked-5f3a: worker",),
        ("python", "-m", "a-server", "--name", "marked-5f3a"),
    ]
    processes = [_waiting(*arguments) for arguments in lookalikes + real]
    found = {process.pid for process in MARK.processes()}
    for process in processes:
        process.communicate()
    assert found == {process.pid for process in processes[len(lookalikes) :]}


TOP = """trap 'echo top signalled; exit' TERM
./a-server -c "$WORKER" worker marked-5f3a &
wait"""
WORKER = """trap 'echo worker signalled; exit' TERM
echo started
while :; do sleep 0.1; done"""


def test_stop_signal_goes_to_the_topmost_process_only(tmp_path: Path) -> None:
    (tmp_path / "a-server").symlink_to("/bin/sh")
    with subprocess.Popen(
        ["./a-server", "-c", TOP, "top", "marked-5f3a"],
        cwd=tmp_path,
        env={"WORKER": WORKER, "PATH": os.defpath},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert len(MARK.processes()) == 2
        MARK.stop_all(signal.SIGTERM, 0.5)
        output = process.stdout.read()
    assert output == "top signalled\n"
    assert MARK.processes() == []


def test_zombies_are_not_listed() -> None:
    process = subprocess.Popen(["a-server", "marked-5f3a"], executable="/bin/true")
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert MARK.processes() == []
    finally:
        process.wait()
