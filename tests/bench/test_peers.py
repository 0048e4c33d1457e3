"""`python -m bench.peers`, without the other systems: its arguments, its arithmetic and its tables."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.peers import __main__ as command
from bench.peers import installation
from bench.peers.installation import NODE, PYTHON, NotInstalled
from bench.peers.measuring import Series, Slice, Target, alternate, cpu_seconds, pids_of
from bench.peers.systems import LIST, ORM, OURS, SYSTEMS
from bench.peers.table import omissions, table
from bench.request.client import Connection


def test_all_systems_are_measured_without_options() -> None:
    options = command.parse([])
    assert tuple(options.systems) == SYSTEMS
    assert (options.rounds, options.seconds, options.install) == (40, 0.25, False)


def test_only_selects_systems_once_each() -> None:
    assert command.parse(["--only", "kataven", "orm", "kataven"]).systems == [OURS, ORM]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "rails"], "invalid choice: 'rails'"),
        (["--rounds", "0"], "must be 1 or more"),
        (["--rounds", "many"], "must be 1 or more"),
        (["--seconds", "0"], "must be above 0"),
        (["--seconds", "nan"], "must be above 0"),
    ],
)
def test_wrong_argument_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(arguments)
    assert message in capsys.readouterr().err


def test_missing_packages_are_one_line_that_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "VENV", tmp_path)
    assert command.main(["--only", "fastapi"]) == 2
    assert capsys.readouterr().err == ("FastAPI and Django are not installed: run python -m bench.peers --install\n")


def test_missing_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for arguments in (["--only", "better-auth-redis"], ["--install"]):
        assert command.main(arguments) == 2
        printed = capsys.readouterr().err
        assert "is not on the PATH: install Node.js with npm" in printed
        assert printed.count("\n") == 1


def test_old_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v18.19.0\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(NotInstalled, match=r"v18\.19\.0: install version 20 or later"):
        installation.check({NODE})


def test_systems_of_the_project_need_no_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "VENV", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    installation.check({system.language for system in (ORM, OURS) if system.language})


def test_rate_is_requests_by_cpu_time_and_ratio_is_by_round() -> None:
    busy = Series([Slice(100, 0.1, 0.2, (0.001, 0.003)), Slice(50, 0.1, 0.2, (0.002,)), Slice(300, 0.1, 0.2)])
    base = Series([Slice(50, 0.1), Slice(50, 0.1), Slice(100, 0.1)])
    assert busy.rates == pytest.approx([1000, 500, 3000])
    assert busy.median_rate == pytest.approx(1000)
    assert busy.min_rate == pytest.approx(500)
    assert busy.cpu_microseconds == pytest.approx(1e6 * 0.3 / 450)
    assert busy.p50_milliseconds == pytest.approx(2)
    assert busy.ratio_to(base) == pytest.approx(2)  # of 2, 1 and 3


def test_work_without_requests_takes_a_share_of_the_second_and_not_of_each_request() -> None:
    """A request costs 1 ms, and timers use a tenth of the core. A slice on a busy machine has fewer requests."""
    quiet = Series([Slice(225, 0.25, 0.25)], idle=0.1)
    crowded = Series([Slice(25, 0.05, 0.25)], idle=0.1)
    for series in (quiet, crowded):
        assert series.cpu_microseconds == pytest.approx(1000)
        assert series.rates == pytest.approx([900])


def test_table_has_the_ratio_to_its_base_and_the_fastest_first() -> None:
    results = {
        "slow": Series([Slice(1000, 2.0, 2.0, (0.004,))]),
        "fast": Series([Slice(1200, 1.0, 2.0, (0.001,))], idle=0.1),
    }
    assert table(results, "slow").splitlines()[2:] == [
        "| fast | 1,350 (1,350) | 2.70 | 667 µs | 10.0% | 1.0 ms |",
        "| slow | 500 (500) | 1.00 | 2,000 µs | 0.0% | 4.0 ms |",
    ]


def test_table_without_its_base_has_no_ratios() -> None:
    assert table({"one": Series([Slice(10, 1.0, 1.0, (0.1,))])}, "missing").endswith(
        "| one | 10 (10) | - | 100,000 µs | 0.0% | 100.0 ms |"
    )


def test_each_system_states_what_it_leaves_out() -> None:
    assert len({system.id for system in SYSTEMS}) == len({system.name for system in SYSTEMS}) == len(SYSTEMS)
    lines = omissions([(system.name, system.leaves_out) for system in SYSTEMS]).splitlines()
    assert len(lines) == len(SYSTEMS) + 2
    assert all(system.leaves_out for system in SYSTEMS)


def test_cpu_time_is_that_of_the_process() -> None:
    before, until = cpu_seconds([os.getpid()]), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert cpu_seconds([os.getpid()]) - before >= 0.05


def test_cpu_time_counts_child_processes() -> None:
    spend = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", spend], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in pids_of(os.getpid())
        assert cpu_seconds([child.pid]) >= 0.2
        child.communicate(b"\n")


def test_each_round_has_all_rows_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def sliced(connections: object, pids: object, seconds: float) -> Slice:
        return Slice(1, 1.0)

    monkeypatch.setattr("bench.peers.measuring.measure", sliced)
    targets = {name: Target([], [], lambda name=name: order.append(name)) for name in "abc"}
    results = alternate(targets, 20, 0.1, 1.0)
    rounds = ["".join(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert len(rounds) == 1 + 20  # the warm-up is the first
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) == 6
    assert [len(slices) for slices in results.values()] == [20, 20, 20]


def test_row_that_fails_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=lambda: listener.accept()[0].close())
        server.start()
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", LIST, "key")
        server.join()
        with pytest.raises(RuntimeError, match="closing server: a request failed: Connection"):
            alternate({"closing server": Target([connection], [os.getpid()])}, 1, 0.1, 0.1)
        connection.close()


def test_lock_files_pin_every_package_with_a_hash_and_name_no_host() -> None:
    lock = (installation.FOLDER / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any("resolved" in package for package in packages.values())
    pinned = re.findall(r"^([a-z0-9-]+)==", installation.REQUIREMENTS.read_text(), re.MULTILINE)
    assert set(pinned) >= set(installation.NAMED[PYTHON])
    assert "://" not in installation.REQUIREMENTS.read_text()
    assert (
        packages[""]["dependencies"] == json.loads((installation.FOLDER / "package.json").read_text())["dependencies"]
    )
