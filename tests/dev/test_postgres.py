"""EmbeddedPostgres: persistence, modes of folders, recovery after a killed run, and access."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from kataven.dev.embedded.binaries import postgres_programs
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import passable_folder
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.processes import Mark
from kataven.dev.embedded.unprivileged import SERVER_UID
from tests.support.servers import AS_ROOT, ask, mode, modes_above, pids_that_mention, wait_for_exit

pytestmark = pytest.mark.processes

KEEP_A_ROW = "create table kept (n int); insert into kept values (7)"


@pytest.fixture(scope="module")
def created(server_folder: Path) -> Path:
    """A data folder with a cluster, whose creation is the slow part of a start."""
    with _postgres(server_folder / "made"):
        return server_folder / "made"


@pytest.fixture
def data_dir(created: Path, scratch: Path) -> Path:
    """A copy of the data folder, for one test."""
    folder = passable_folder(scratch / "pg")
    subprocess.run(["cp", "-a", created / "cluster", folder], check=True)
    return folder


def _postgres(data_dir: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, fsync=False)


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "cluster/postmaster.pid").read_text().split()[0])


def _socket_folder(server: EmbeddedPostgres) -> Path:
    return Path(str(make_url(server.url("x")).query["host"]))


def test_data_and_url_survive_a_restart(data_dir: Path) -> None:
    with _postgres(data_dir) as server:
        ask(server, KEEP_A_ROW)
        first_url = server.url("acme")
    with _postgres(data_dir) as server:
        assert ask(server, "select n from kept") == [(7,)]
        assert server.url("acme") == first_url


def test_url_works_for_sqlalchemy_and_pg_dump_without_a_password(postgres: EmbeddedPostgres) -> None:
    url = postgres.url("postgres")
    assert make_url(url).password is None
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("select current_database()")).scalar_one() == "postgres"
    engine.dispose()
    dump = subprocess.run(
        [postgres_programs() / "pg_dump", "--schema-only", f"--dbname={url.replace('+psycopg2', '')}"],
        capture_output=True,
        text=True,
    )
    assert "PostgreSQL database dump complete" in dump.stdout, dump.stderr


def test_fsync_is_disabled_only_for_scratch_servers(postgres: EmbeddedPostgres, scratch: Path) -> None:
    assert ask(postgres, "show fsync") == [("off",)]
    with EmbeddedPostgres(scratch / "pg", max_connections=33) as server:
        assert ask(server, "show fsync") == [("on",)]
        assert ask(server, "show max_connections") == [("33",)]


@pytest.mark.parametrize("above", [0o755, 0o711, 0o777])
def test_modes_of_existing_folders_are_not_changed(scratch: Path, above: int) -> None:
    parent = scratch / "parent"
    parent.mkdir()
    parent.chmod(above)
    before = modes_above(parent / "pg")
    with _postgres(parent / "pg"):
        assert modes_above(parent / "pg") == before
        assert mode(parent / "pg") == (0o711 if AS_ROOT else 0o700)
        assert mode(parent / "pg/cluster") == 0o700
    assert modes_above(parent / "pg") == before


def test_existing_data_folder_keeps_its_mode(scratch: Path) -> None:
    data_dir = scratch / "pg"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    with _postgres(data_dir):
        assert mode(data_dir) == 0o755


def test_socket_path_is_private_and_short_with_a_deep_data_folder(scratch: Path) -> None:
    deep = scratch.joinpath(*["a-folder-with-a-rather-long-name"] * 6)
    with _postgres(deep) as server:
        folder = _socket_folder(server)
        assert ask(server, "select 1") == [(1,)]
        assert mode(folder) == 0o700
        assert len(os.fsencode(folder / ".s.PGSQL.5432.lock")) < 100
    assert not folder.exists()


def test_postgres_opens_no_tcp_port(postgres: EmbeddedPostgres) -> None:
    assert ask(postgres, "show listen_addresses") == [("",)]


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
@pytest.mark.parametrize(
    ("uid", "refusal"), [(65_534, "Permission denied"), (SERVER_UID, "Peer authentication failed")]
)
def test_other_users_cannot_connect(postgres: EmbeddedPostgres, uid: int, refusal: str) -> None:
    psql = subprocess.run(
        [postgres_programs() / "psql", postgres.url("postgres").replace("+psycopg2", ""), "--command", "select 1"],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert psql.returncode != 0
    assert refusal in psql.stderr


@pytest.mark.skipif(not AS_ROOT, reason="other users run it themselves")
def test_postgres_does_not_run_as_root(postgres: EmbeddedPostgres) -> None:
    for pid in pids_that_mention(_socket_folder(postgres).name):
        assert Path(f"/proc/{pid}").stat().st_uid == SERVER_UID


def test_developers_environment_does_not_affect_postgres(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGHOST", "PGUSER", "PGOPTIONS", "LC_ALL", "TZ"):
        monkeypatch.setenv(name, "/nonsense")
    with _postgres(scratch / "pg") as server:
        assert (scratch / "pg/cluster/PG_VERSION").exists()
        monkeypatch.undo()
        assert ask(server, "select 1") == [(1,)]


def test_folder_in_use_is_reported(data_dir: Path) -> None:
    with _postgres(data_dir) as server:
        with pytest.raises(DevError) as rejected:
            _postgres(data_dir).start()
        assert str(rejected.value) == f"another run uses {data_dir} (process {os.getpid()}); stop it first"
        assert ask(server, "select 1") == [(1,)]


def test_killed_server_is_detected_and_the_next_start_recovers(data_dir: Path) -> None:
    with _postgres(data_dir) as server:
        ask(server, KEEP_A_ROW)
        server.check()
        pid = _postmaster(data_dir)
        os.kill(pid, signal.SIGKILL)
        wait_for_exit(pid)
        with pytest.raises(DevError, match=r"PostgreSQL exited unexpectedly \(SIGKILL\); the end of .*server\.log"):
            server.check()
    with _postgres(data_dir) as server:
        assert ask(server, "select n from kept") == [(7,)]


SUPERVISOR = """
import sys
from pathlib import Path
from kataven.dev.embedded.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def _supervisor(data_dir: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, data_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the exit of a parent")
def test_postgres_stops_when_its_supervisor_is_killed(data_dir: Path) -> None:
    with _supervisor(data_dir) as supervisor:
        pid = _postmaster(data_dir)
        supervisor.kill()
    wait_for_exit(pid)
    assert not (data_dir / "cluster/postmaster.pid").exists(), "the server was not shut down properly"


def test_start_immediately_after_a_killed_supervisor_finds_the_data(data_dir: Path) -> None:
    with _postgres(data_dir) as server:
        ask(server, KEEP_A_ROW)
    with _supervisor(data_dir) as supervisor:
        supervisor.kill()
    with _postgres(data_dir) as server:
        assert ask(server, "select n from kept") == [(7,)]


def test_orphaned_server_is_stopped_first(data_dir: Path) -> None:
    orphan = _postgres(data_dir)
    orphan.start()
    try:
        ask(orphan, KEEP_A_ROW)
        orphan._lock.release()  # as the kernel does when a supervisor exits
        with _postgres(data_dir) as server:
            with pytest.raises(DevError, match="exited unexpectedly"):
                orphan.check()
            assert ask(server, "select n from kept") == [(7,)]
            assert len(Mark("postgres", _socket_folder(server).name).processes()) >= 1
    finally:
        orphan.stop()


def test_pid_file_of_another_program_is_stale(data_dir: Path) -> None:
    with _postgres(data_dir) as server:
        ask(server, KEEP_A_ROW)
    (data_dir / "cluster/postmaster.pid").write_text(f"{os.getpid()}\n")
    with _postgres(data_dir) as server:
        assert ask(server, "select n from kept") == [(7,)]


def test_pid_file_of_a_manually_started_postgres_is_reported(data_dir: Path) -> None:
    with _postgres(data_dir):
        pass
    pid_file = data_dir / "cluster/postmaster.pid"
    with subprocess.Popen(["/elsewhere/bin/postgres", "60"], executable="/bin/sleep") as manual:
        pid_file.write_text(f"{manual.pid}\n")
        with pytest.raises(DevError, match=f"manually started PostgreSQL uses .*process {manual.pid}"):
            _postgres(data_dir).start()
        assert pid_file.exists()
        manual.kill()


def test_incomplete_cluster_is_created_again(scratch: Path) -> None:
    half = scratch / "pg/cluster.partial"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    scratch.joinpath("pg").chmod(0o711)
    with _postgres(scratch / "pg") as server:
        assert ask(server, "select 1") == [(1,)]
    assert not half.exists()


def test_cluster_of_another_major_version_is_rejected(data_dir: Path) -> None:
    with _postgres(data_dir):
        pass
    (data_dir / "cluster/PG_VERSION").write_text("17\n")
    with pytest.raises(DevError, match="was created by PostgreSQL 17, and this is 18"):
        _postgres(data_dir).start()


def test_failed_start_reports_the_reason_and_leaves_no_process(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, fsync=False, max_connections=0)
    with pytest.raises(DevError, match=r"(?s)PostgreSQL exited unexpectedly \(exit status 1\).*max_connections"):
        server.start()
    assert not pids_that_mention(str(data_dir))
    with _postgres(data_dir):  # the lock was released
        pass


def test_stopped_server_has_no_url(data_dir: Path) -> None:
    server = _postgres(data_dir)
    with pytest.raises(DevError, match="not running"):
        server.url("acme")
    server.stop()


def test_failed_statements_are_not_logged(data_dir: Path) -> None:
    log = data_dir / "postgres.log"
    with EmbeddedPostgres(data_dir, fsync=False, log=log) as server:
        ask(server, "create table once (v text primary key)")
        ask(server, "insert into once values ('x')")
        with pytest.raises(Exception, match="duplicate key"):
            ask(server, "insert into once values ('x') /* a customer's value */")
    assert "duplicate key" in log.read_text()
    assert "a customer's value" not in log.read_text()
    assert mode(log) == 0o600
