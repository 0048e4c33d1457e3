"""`python -m kataven.dev`, end to end: its output, its processes, and the data that the next run finds."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg2
import pytest
from sqlalchemy import make_url

from kataven.dev.dev_json import stored_accounts
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.processes import living_processes
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.ports import free_port
from kataven.settings import development_environ, load
from tests.support.servers import ask, mode, pids_that_mention, wait_for_exit

pytestmark = pytest.mark.processes

COMMAND = [sys.executable, "-m", "kataven.dev"]
LAST_LINE = "Ctrl-C stops everything."
SECRETS = ("peppers", "widget_signing_keys")


class DevRun:
    """A run with its own data folder and port. `output` contains its lines, first those until it is ready."""

    def __init__(self, data_dir: Path, command: list[str] | None = None, **environ: str) -> None:
        self.data_dir = data_dir
        self.environ = _environment(data_dir, **environ)
        self.process = subprocess.Popen(
            command or COMMAND,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if self.output[-1] == LAST_LINE:
                break
        else:
            pytest.fail("\n".join([f"the run ended with {self.process.wait()} before it was ready:", *self.output]))
        self.pids = self._pids()

    def dev_json(self) -> dict[str, str]:
        reported: dict[str, str] = json.loads((self.data_dir / "dev.json").read_text())
        return reported

    def ctrl_c(self) -> int:
        """Signal the whole group, as a terminal does. Returns the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.finish()

    def finish(self) -> int:
        """Read the remaining output and return the exit status."""
        rest, _ = self.process.communicate(timeout=60)
        self.output += rest.splitlines()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.finish()

    def _pids(self) -> list[int]:
        """The supervisor's children and their workers."""
        family = {self.process.pid}
        processes = list(living_processes())
        while more := {process.pid for process in processes if process.parent in family} - family:
            family |= more
        return sorted(family)


def _environment(data_dir: Path, **environ: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("KATAVEN_", "MAKE", "PYTEST_"))}
    return {**ours, "KATAVEN_DATA_DIR": str(data_dir), "PORT": str(free_port(0)), "WORKERS": "1", **environ}


def _error_output(data_dir: Path, **environ: str) -> str:
    """The error output of a run that fails to start."""
    done = subprocess.run(COMMAND, env=_environment(data_dir, **environ), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


def _agents(curl: str) -> httpx2.Response:
    """Send the request of the printed command line."""
    curl_word, _, url, _, header = shlex.split(curl)
    assert curl_word == "curl"
    name, _, value = header.partition(": ")
    return httpx2.get(url, headers={name: value})


@pytest.fixture(scope="module")
def data_dir(server_folder: Path) -> Path:
    """A data folder for consecutive runs. Each is fast, because it finds the previous run's data."""
    return server_folder / "runs"


@pytest.fixture(scope="module")
def running(server_folder: Path) -> Iterator[DevRun]:
    run = DevRun(server_folder / "running", WORKERS="2")
    yield run
    assert run.ctrl_c() == 0


def test_printed_curl_command_returns_acmes_agents(running: DevRun) -> None:
    [curl] = [line for line in running.output if line.startswith("curl ")]
    response = _agents(curl)
    assert response.status_code == 200, response.text
    assert response.json()[0]["name"]


def test_dev_json_contains_the_urls_and_is_private(running: DevRun) -> None:
    reported = running.dev_json()
    assert set(reported) == {
        "api_url",
        "hub_url",
        "database_url",
        "redis_url",
        "oidc_issuer",
        "widget_demo_url",
        "accounts",
    }
    assert {"acme", "globex"} <= set(stored_accounts(running.data_dir))
    assert mode(running.data_dir / "dev.json") == 0o600
    assert reported["api_url"] == f"http://127.0.0.1:{running.environ['PORT']}"
    assert (
        httpx2.get(f"{reported['oidc_issuer']}/.well-known/openid-configuration").json()["issuer"]
        == reported["oidc_issuer"]
    )


def test_env_file_configures_another_shell(running: DevRun) -> None:
    assert mode(running.data_dir / "env") == 0o600
    settings = load(development_environ({"KATAVEN_DATA_DIR": str(running.data_dir)}))
    assert settings.database_url.get_secret_value() == running.dev_json()["database_url"]
    assert settings.redis_url.get_secret_value() == running.dev_json()["redis_url"]


def test_secrets_are_not_in_command_lines_logs_or_readable_files(running: DevRun) -> None:
    secrets = [(running.data_dir / name).read_text().strip().rpartition(":")[2] for name in SECRETS]
    for account in stored_accounts(running.data_dir).values():
        secrets += [account.api_key, account.widget_key]
    commands = "\n".join(process.command for process in living_processes())
    logs = "\n".join(path.read_text(errors="replace") for path in (running.data_dir / "logs").iterdir())
    for secret in secrets:
        assert secret
        assert secret not in commands
        assert secret not in logs
    for path in running.data_dir.iterdir():
        assert mode(path) & (0o077 if path.is_file() else 0o066) == 0, path


def test_concurrent_run_in_the_same_folder_is_rejected(running: DevRun) -> None:
    line = f"make run: another run uses {running.data_dir} (process {running.process.pid}); stop it first\n"
    assert _error_output(running.data_dir) == line


def test_port_in_use_is_rejected(running: DevRun, scratch: Path) -> None:
    port = running.environ["PORT"]
    line = f"make run: PORT: port {port} is in use; stop the program that listens on it, or choose another PORT\n"
    assert _error_output(scratch / "data", PORT=port) == line


@pytest.mark.parametrize("name", ["PORT", "WORKERS"])
def test_invalid_value_is_rejected(scratch: Path, name: str) -> None:
    output = _error_output(scratch / "data", **{name: "many"})
    assert output.startswith(f"make run: {name}: must be a whole number from 1 to ")
    assert output.count("\n") == 1
    assert not (scratch / "data").exists()


def test_unreachable_external_server_is_rejected(scratch: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://me:pass-word@127.0.0.1:{server.getsockname()[1]}/kataven_system"
    output = _error_output(scratch / "data", KATAVEN_DATABASE_URL=url)
    assert output.startswith("make run: KATAVEN_DATABASE_URL: ")
    assert output.count("\n") == 1
    assert "pass-word" not in output


def test_ctrl_c_stops_all_processes_and_the_next_run_finds_the_data(data_dir: Path) -> None:
    first = DevRun(data_dir)
    keys = stored_accounts(data_dir)
    assert first.ctrl_c() == 0
    for pid in first.pids:
        wait_for_exit(pid)
    assert not pids_that_mention(str(data_dir))
    assert not (data_dir / "env").exists()
    second = DevRun(data_dir)
    assert stored_accounts(data_dir) == keys
    [curl] = [line for line in second.output if line.startswith("curl ")]
    assert _agents(curl).status_code == 200
    _close_terminal(second)
    assert not pids_that_mention(str(data_dir))


def _close_terminal(run: DevRun) -> None:
    assert run.process.stdout is not None
    run.process.stdout.close()
    run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(60) == 0


@pytest.mark.parametrize("step", ["starting PostgreSQL", "starting gunicorn"])
def test_run_interrupted_during_startup_leaves_no_process(data_dir: Path, step: str) -> None:
    run = subprocess.Popen(
        COMMAND, env=_environment(data_dir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.stdout is not None
    assert any(line.startswith(step) for line in iter(run.stdout.readline, ""))
    run.send_signal(signal.SIGINT)
    rest, _ = run.communicate(timeout=60)
    assert run.returncode == 0, rest
    assert "Traceback" not in rest
    assert not pids_that_mention(str(data_dir))
    assert not (data_dir / "dev.json").exists()


def test_unavailable_account_is_reported_and_the_run_continues(data_dir: Path) -> None:
    first = DevRun(data_dir)
    url = make_url(first.dev_json()["database_url"])
    for database, statement in (
        ("globex", "UPDATE alembic_version SET version_num = 'account_9999'"),
        (url.database, "UPDATE accounts SET schema_revision = 'account_9999' WHERE account_id = 'globex'"),
    ):
        there = url.set(drivername="postgresql", database=database).render_as_string(hide_password=False)
        with contextlib.closing(psycopg2.connect(there)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement)
    keys = stored_accounts(data_dir)
    assert first.ctrl_c() == 0
    second = DevRun(data_dir)
    [reported] = [line for line in second.output if line.startswith("account globex is not available: ")]
    assert "account_9999" in reported
    assert any("flask migrations upgrade --account globex" in line for line in second.output)
    assert stored_accounts(data_dir) == keys
    [curl] = [line for line in second.output if line.startswith("curl ")]
    assert _agents(curl).status_code == 200
    me = f"{second.dev_json()['api_url']}/v1/me"
    globex = httpx2.get(me, headers={"Authorization": f"Bearer {keys['globex'].api_key}"})
    assert (globex.status_code, globex.json()["code"]) == (503, "schema_mismatch")
    assert second.ctrl_c() == 0


def test_killed_run_stops_its_servers_and_the_next_run_recovers(data_dir: Path) -> None:
    killed = DevRun(data_dir)
    killed.kill()
    run = DevRun(data_dir, PORT=killed.environ["PORT"])
    for pid in killed.pids:
        wait_for_exit(pid)
    assert stored_accounts(data_dir)["acme"].api_key in "\n".join(run.output)
    _kill_server(run, "gunicorn", "gunicorn")


def test_exit_of_a_server_ends_the_run_with_its_name(data_dir: Path) -> None:
    _kill_server(DevRun(data_dir), "postgres", "PostgreSQL")


def _kill_server(run: DevRun, program: str, name: str) -> None:
    """Kill a server of the run, and check that the run ends."""
    children = [process for process in living_processes() if process.parent == run.process.pid]
    [server_pid] = [process.pid for process in children if program in process.command]
    os.kill(server_pid, signal.SIGKILL)
    assert run.finish() == 1
    assert any(line.startswith(f"make run: {name} exited unexpectedly (SIGKILL)") for line in run.output)
    for pid in run.pids:
        wait_for_exit(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the exit of a parent")
def test_killed_make_stops_the_run(data_dir: Path) -> None:
    make = ["/bin/sh", "-c", f"{shlex.join(COMMAND)}; true"]
    run = DevRun(data_dir, make, MAKELEVEL="1")
    run.kill()
    for pid in run.pids:
        wait_for_exit(pid)
    assert not (data_dir / "env").exists(), "the run was not stopped properly"


def test_run_uses_external_servers(scratch: Path) -> None:
    with EmbeddedPostgres(scratch / "pg", fsync=False) as postgres, EmbeddedRedis(scratch / "redis") as redis:
        url = postgres.url("kataven_system")
        run = DevRun(scratch / "data", KATAVEN_DATABASE_URL=url, KATAVEN_REDIS_URL=redis.url)
        assert (run.dev_json()["database_url"], run.dev_json()["redis_url"]) == (url, redis.url)
        assert run.ctrl_c() == 0
        assert ("kataven_system",) in ask(postgres, "select datname from pg_database")
    assert not (scratch / "data/postgres").exists()
    assert not (scratch / "data/redis").exists()
