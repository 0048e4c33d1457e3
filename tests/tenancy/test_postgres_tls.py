"""Client certificates and verification of the server, on a real PostgreSQL server with TLS.

The servers of the `dev` extra are built without TLS, so these tests need the Debian package `postgresql`. `.ci/run`
installs it for `make topologies`, and then runs these tests with POSTGRES_TLS_TESTS=yes, so that they are not skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from kataven import settings
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.suitability import server_url
from kataven.tenancy.programs import Programs
from kataven.tenancy.server import DatabaseServer
from tests.support.certificates import Authority, authority
from tests.support.gunicorn import free_port
from tests.support.waiting import wait_until
from tests.test_settings import GOOD
from topologies.engine_process import private_to, unprivileged_uid
from topologies.packages import MissingPrograms, program

REQUIRED = os.environ.get("POSTGRES_TLS_TESTS") == "yes"
SSL = text("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


@dataclass(frozen=True)
class TlsPostgres:
    """A running server that accepts only clients with a certificate of its authority, in the role that it names."""

    port: int
    trusted: Authority
    programs: Path

    def url(self, scheme: str = "postgresql", **options: str) -> str:
        address = f"{scheme}://kataven@localhost:{self.port}/postgres"
        return f"{address}?{urlencode({'hostaddr': '127.0.0.1', **options})}"

    def options(self, trusted: Authority | None = None) -> dict[str, str]:
        """The options of a client with a certificate. `trusted` is the authority for the server's certificate."""
        files = self.trusted.issue("kataven")
        files.key.chmod(0o600)
        return {
            "sslmode": "verify-full",
            "sslrootcert": str((trusted or self.trusted).folder / "ca.pem"),
            "sslcert": str(files.certificate),
            "sslkey": str(files.key),
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPostgres]:
    try:
        programs = program("postgres").parent
    except MissingPrograms as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))
    trusted = authority(tmp_path_factory.mktemp("tls") / "ca")
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-tls-"))
    process = start(folder, programs, trusted, port := free_port())
    try:
        wait_until(lambda: is_ready(programs, port), 60, lambda: (folder / "log").read_text()[-2000:])
        yield TlsPostgres(port, trusted, programs)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder)


def start(folder: Path, programs: Path, trusted: Authority, port: int) -> subprocess.Popen[bytes]:
    uid = unprivileged_uid()
    private_to(folder, uid)
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "kataven", "--auth=reject", "--no-sync", "--encoding=UTF8"],
        user=uid,
        check=True,
        capture_output=True,
    )
    files = trusted.issue("localhost")
    for source, name in ((files.authority, "ca.pem"), (files.certificate, "server.pem"), (files.key, "server.key")):
        private_to(shutil.copy(source, folder / name), uid)
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 cert\n")
    options = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_ca_file": folder / "ca.pem",
        "ssl_cert_file": folder / "server.pem",
        "ssl_key_file": folder / "server.key",
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())],
            user=uid,
            stdout=log,
            stderr=log,
        )


def is_ready(programs: Path, port: int) -> bool:
    command = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(command, check=False).returncode == 0


def test_system_database_is_reached_with_a_client_certificate(server: TlsPostgres) -> None:
    loaded = settings.load({**GOOD, "KATAVEN_DATABASE_URL": server.url(**server.options())})
    database = SystemDatabase(loaded.database_url.get_secret_value())
    try:
        with database.reading() as session:
            assert session.execute(SSL).one() == (True, "/CN=kataven")
    finally:
        database.close()


def test_account_server_is_reached_with_a_client_certificate(server: TlsPostgres) -> None:
    with DatabaseServer(server_url(server.url(**server.options()))).connect("postgres") as connection:
        assert connection.execute(SSL).one() == (True, "/CN=kataven")


def test_pg_dump_uses_the_client_certificate(server: TlsPostgres) -> None:
    url = DatabaseServer(server_url(server.url(**server.options()))).url_of("postgres")
    assert "PostgreSQL database dump" in Programs(server.programs).run("pg_dump", url, ["--schema-only"])


def test_client_without_a_certificate_is_rejected(server: TlsPostgres) -> None:
    options = server.options()
    del options["sslcert"], options["sslkey"]
    database = SystemDatabase(server.url("postgresql+psycopg2", **options))
    with pytest.raises(SystemDatabaseUnavailable), database.reading():
        pass
    database.close()


def test_server_of_another_authority_is_rejected(server: TlsPostgres, tmp_path: Path) -> None:
    options = server.options(trusted=authority(tmp_path / "other"))
    with (
        pytest.raises(OperationalError, match="certificate verify failed"),
        DatabaseServer(server_url(server.url(**options))).connect("postgres"),
    ):
        pass
