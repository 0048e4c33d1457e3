"""PostgreSQL servers of Debian's package: one alone, PgBouncer in front of it, and two under Patroni with etcd."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil
import psycopg2

from kataven.dev.embedded.child import launcher_command
from tests.support.gunicorn import free_port
from tests.support.waiting import wait_until
from topologies.engine_process import EngineProcess, private_to, unprivileged_uid
from topologies.packages import program

LOCALHOST = "127.0.0.1"
START_SECONDS = 90.0
PROMOTION_SECONDS = 120.0
SYSTEM_DATABASE = "kataven_system"
ROLE = "kataven"
SUPERUSER = "postgres"
MAX_CONNECTIONS = 100
SETTINGS: Mapping[str, object] = {
    "fsync": "off",  # no row takes the power away
    "max_connections": MAX_CONNECTIONS,
    "shared_buffers": "32MB",
    "timezone": "UTC",
}
_PASSWORD_RULE = f"host all all {LOCALHOST}/32 scram-sha-256"
_REPLICATION_RULE = f"host replication all {LOCALHOST}/32 scram-sha-256"


def create_role(port: int, superuser_password: str, password: str) -> None:
    """Create the product's role, which is not a superuser: it can create databases, and nothing else."""
    connection = psycopg2.connect(
        host=LOCALHOST, port=port, user=SUPERUSER, password=superuser_password, dbname="postgres"
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD %s", (password,))
    finally:
        connection.close()


def database_url(port: int, password: str) -> str:
    return f"postgresql+psycopg2://{ROLE}:{password}@{LOCALHOST}:{port}/{SYSTEM_DATABASE}"


class PostgresServer:
    """One server on a loopback port, with passwords. Also listens on `address`, for clients in that network."""

    def __init__(self, folder: Path, address: str = LOCALHOST) -> None:
        self._address = address
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._folder = folder / "postgresql"
        self._superuser_password = secrets.token_hex(16)
        self._programs = program("postgres").parent
        self._uid = unprivileged_uid()
        data = self._folder / "data"
        listen = LOCALHOST if address == LOCALHOST else f"{LOCALHOST},{address}"
        options = {**SETTINGS, "port": self.port, "listen_addresses": listen, "unix_socket_directories": ""}
        command: list[str | Path] = [
            self._programs / "postgres",
            "-D",
            data,
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        self.process = EngineProcess(command, folder, name="postgresql", uid=self._uid, stop_signal=signal.SIGINT)

    @property
    def url(self) -> str:
        return database_url(self.port, self.password)

    def __enter__(self) -> Self:
        self._folder.mkdir()
        private_to(self._folder, self._uid)
        password_file = self._folder / "password"
        password_file.write_text(self._superuser_password)
        private_to(password_file, self._uid)
        command: list[str | Path] = [self._programs / "initdb", "-D", self._folder / "data", "-U", SUPERUSER]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        command += ["--no-sync", "--no-instructions"]
        done = subprocess.run(
            launcher_command(command, signal.SIGTERM, self._uid),
            cwd=self._folder if self._uid is None else "/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr[-800:]}")
        if self._address != LOCALHOST:
            with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet scram-sha-256\n")
        self.process.start()
        try:
            wait_until(self._accepts, START_SECONDS, self.process.tail)
            create_role(self.port, self._superuser_password, self.password)
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()

    def _accepts(self) -> bool:
        self.process.require_running()
        with suppress(psycopg2.Error):
            psycopg2.connect(
                host=LOCALHOST, port=self.port, user=SUPERUSER, password=self._superuser_password, dbname="postgres"
            ).close()
            return True
        return False


class PgBouncer:
    """A pooler in front of a server, in session or transaction mode."""

    def __init__(self, folder: Path, server: PostgresServer, mode: str) -> None:
        self.port = free_port()
        self._folder = folder / "pgbouncer"
        self._folder.mkdir()
        self._server = server
        self._mode = mode
        self._uid = unprivileged_uid()
        configuration = self._folder / "pgbouncer.ini"
        self.process = EngineProcess([program("pgbouncer"), configuration], folder, name="pgbouncer", uid=self._uid)

    @property
    def url(self) -> str:
        return database_url(self.port, self._server.password)

    def start(self) -> None:
        users = self._folder / "users.txt"
        users.write_text(f'"{ROLE}" "{self._server.password}"\n')
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={LOCALHOST} port={self._server.port}\n"
            f"[pgbouncer]\nlisten_addr = {LOCALHOST}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {self._mode}\n"
            "max_client_conn = 500\ndefault_pool_size = 20\n"
        )
        for path in (users, self._folder / "pgbouncer.ini", self._folder):
            private_to(path, self._uid)
        self.process.start()
        wait_until(self._accepts, START_SECONDS, self.process.tail)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()

    def _accepts(self) -> bool:
        self.process.require_running()
        with suppress(psycopg2.Error):
            psycopg2.connect(
                host=LOCALHOST, port=self.port, user=ROLE, password=self._server.password, dbname="postgres"
            ).close()
            return True
        return False


class PatroniNode:
    """A PostgreSQL server that Patroni manages."""

    def __init__(self, folder: Path, name: str, etcd_port: int, passwords: Mapping[str, str], *, sync: bool) -> None:
        self.name = name
        self.port = free_port()
        self.rest_port = free_port()
        self._folder = folder / name
        self._folder.mkdir()
        self._uid = unprivileged_uid()
        configuration = self._folder / "patroni.yml"
        configuration.write_text(json.dumps(self._configuration(etcd_port, passwords, sync=sync)))
        private_to(configuration, self._uid)
        private_to(self._folder, self._uid)
        environ = {"HOME": str(self._folder)}
        self.process = EngineProcess(
            [program("patroni"), configuration], folder, name=name, uid=self._uid, environ=environ
        )

    def status(self) -> Mapping[str, Any]:
        """What Patroni reports of its server; empty if it does not respond."""
        with suppress(httpx2.HTTPError, ValueError):
            status: dict[str, Any] = _patroni_api("GET", self.rest_port, "patroni").json()
            return status
        return {}

    def processes(self) -> list[psutil.Process]:
        """PostgreSQL's processes. Patroni's own process is not one of them."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            pid = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            postmaster = psutil.Process(pid)
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Kill Patroni and PostgreSQL, as the loss of the machine does."""
        servers = self.processes()
        self.process.kill()
        _signal(servers, signal.SIGKILL)

    def pause(self) -> None:
        """Pause Patroni and PostgreSQL, as a paused virtual machine is."""
        self.process.pause()
        _signal(self.processes(), signal.SIGSTOP)

    def resume(self) -> None:
        _signal(self.processes(), signal.SIGCONT)
        self.process.resume()

    def stop(self) -> None:
        _signal(self.processes(), signal.SIGCONT)
        self.process.stop()
        _signal(self.processes(), signal.SIGKILL)

    def _configuration(self, etcd_port: int, passwords: Mapping[str, str], *, sync: bool) -> dict[str, Any]:
        address = f"{LOCALHOST}:{self.port}"
        replication = {"username": "replicator", "password": passwords["replicator"]}
        superuser = {"username": SUPERUSER, "password": passwords[SUPERUSER]}
        return {
            "scope": "kataven",
            "name": self.name,
            "restapi": {
                "listen": f"{LOCALHOST}:{self.rest_port}",
                "connect_address": f"{LOCALHOST}:{self.rest_port}",
            },
            "etcd3": {"hosts": [f"{LOCALHOST}:{etcd_port}"]},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "maximum_lag_on_failover": 1_048_576,
                    "synchronous_mode": sync,
                    "postgresql": {"use_pg_rewind": True, "parameters": {**SETTINGS, "wal_log_hints": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": address,
                "connect_address": address,
                "bin_dir": str(program("postgres").parent),
                "data_dir": str(self._folder / "data"),
                "pgpass": str(self._folder / "pgpass"),
                "parameters": {"unix_socket_directories": str(self._folder)},
                "pg_hba": [f"local all {SUPERUSER} scram-sha-256", _PASSWORD_RULE, _REPLICATION_RULE],
                "authentication": {"replication": replication, "superuser": superuser, "rewind": superuser},
            },
        }


class PatroniCluster:
    """Two servers under Patroni, with one etcd. `sync`: a commit waits for the standby."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.password = secrets.token_hex(16)
        self._folder = folder
        self._sync = sync
        self._passwords = {name: secrets.token_hex(16) for name in (SUPERUSER, "replicator")}
        self._etcd_port, self._etcd_peer_port = free_port(), free_port()
        self.nodes = [
            PatroniNode(folder, f"patroni-{number}", self._etcd_port, self._passwords, sync=sync) for number in range(2)
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """libpq's multi-host form: a connection is made to the server that accepts writes."""
        hosts = "&".join(f"host={LOCALHOST}:{node.port}" for node in self.nodes)
        options = "target_session_attrs=read-write&connect_timeout=2"
        return f"postgresql+psycopg2://{ROLE}:{self.password}@/{SYSTEM_DATABASE}?{hosts}&{options}"

    def primary(self) -> PatroniNode:
        """The primary, after its standby streams from it, and is synchronous if required."""
        found: list[PatroniNode] = []

        def complete() -> bool:
            statuses = {node.name: node.status() for node in self.nodes}
            found[:] = [node for node in self.nodes if _is_primary(statuses[node.name])]
            if len(found) != 1:
                return False
            replication = statuses[found[0].name].get("replication") or []
            wanted = {"sync", "quorum"} if self._sync else {"async", "sync"}
            standbys = {node.name for node in self.nodes}
            return any(
                one["application_name"] in standbys and one["state"] == "streaming" and one["sync_state"] in wanted
                for one in replication
            )

        wait_until(complete, PROMOTION_SECONDS, self._logs)
        return found[0]

    def wait_for_promotion(self, old: PatroniNode) -> None:
        others = [node for node in self.nodes if node is not old]
        wait_until(lambda: any(_is_primary(node.status()) for node in others), PROMOTION_SECONDS, self._logs)

    def switch_over(self, old: PatroniNode) -> None:
        """A planned switchover, through Patroni's API."""
        refused: list[str] = []

        def accepted() -> bool:
            # Patroni rejects it for some seconds after the standby became synchronous.
            answer = _patroni_api("POST", old.rest_port, "switchover", {"leader": old.name}, seconds=60)
            refused[:] = [f"{answer.status_code} {answer.text}"]
            return answer.status_code == 200

        wait_until(accepted, START_SECONDS, lambda: refused)
        self.wait_for_promotion(old)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        client, peer = f"http://{LOCALHOST}:{self._etcd_port}", f"http://{LOCALHOST}:{self._etcd_peer_port}"
        data = self._folder / "etcd"
        command: list[str | Path] = [
            program("etcd"),
            "--name",
            "etcd",
            "--data-dir",
            data,
            "--listen-client-urls",
            client,
        ]
        command += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--unsafe-no-fsync"]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"etcd={peer}"]
        etcd = EngineProcess(command, self._folder, name="etcd")
        etcd.start()
        self._stack.callback(etcd.stop)
        wait_until(self._etcd_responds, START_SECONDS, etcd.tail)
        # Stopped after both, so that no node is promoted while the other one stops.
        for node in self.nodes:
            self._stack.callback(node.stop)
        self.nodes[0].process.start()
        wait_until(lambda: _is_primary(self.nodes[0].status()), START_SECONDS, self._logs)
        self.nodes[1].process.start()
        create_role(self.nodes[0].port, self._passwords[SUPERUSER], self.password)
        self.primary()

    def _etcd_responds(self) -> bool:
        with suppress(httpx2.HTTPError):
            return "true" in httpx2.get(f"http://{LOCALHOST}:{self._etcd_port}/health", trust_env=False).text
        return False

    def _logs(self) -> str:
        return "\n".join(node.process.tail() for node in self.nodes)


def _patroni_api(method: str, port: int, path: str, body: object = None, *, seconds: float = 2.0) -> httpx2.Response:
    url = f"http://{LOCALHOST}:{port}/{path}"
    return httpx2.request(method, url, json=body, timeout=seconds, trust_env=False)


def _is_primary(status: Mapping[str, Any]) -> bool:
    return status.get("role") in {"master", "primary"} and status.get("state") == "running"


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
