"""A PostgreSQL cluster on disk: creates it, writes its configuration, and checks the lock file in it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from kataven.dev.embedded.binaries import POSTGRES_MAJOR
from kataven.dev.embedded.child import launcher_command
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import PRIVATE, read_text, write_private
from kataven.dev.embedded.placement import Placement
from kataven.dev.embedded.processes import living_processes
from kataven.dev.embedded.unprivileged import change_owner, initdb_uid

SUPERUSER = "kataven"
ENVIRON = {"LC_ALL": "C", "PATH": os.defpath}
"""The environment of PostgreSQL's programs. It contains none of the developer's variables: PGDATA would affect them."""


def create_cluster(placement: Placement, log: Path, *, sync: bool) -> None:
    """Run initdb in a partial folder and rename it, so that an interrupted run leaves no incomplete cluster.

    Raises DevError with initdb's reason. Its complete output goes to `log`.
    """
    partial = placement.home / "cluster.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=PRIVATE)
    uid = None if placement.uid is None else initdb_uid()
    if uid is not None:
        os.chown(partial, uid, uid)
    _initdb(placement, partial, uid, log, sync=sync)
    if placement.uid is not None:
        change_owner(partial, placement.uid)
    partial.replace(placement.cluster)


def _initdb(placement: Placement, folder: Path, uid: int | None, log: Path, *, sync: bool) -> None:
    command: list[str | Path] = [placement.programs / "initdb", "--pgdata", folder, "--username", SUPERUSER]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--auth-local=peer", "--auth-host=reject", "--no-instructions"]
    command += [] if sync else ["--no-sync"]
    done = subprocess.run(  # noqa: S603 - our own initdb; no shell
        launcher_command(command, signal.SIGTERM, uid),
        cwd=placement.home,
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        write_private(log, done.stdout + done.stderr)
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise DevError(f"initdb failed: {reason.removeprefix('initdb: ')}; its complete output is in {log}")


def require_supported_version(cluster: Path) -> None:
    """Raise DevError if another major version of PostgreSQL created the cluster."""
    version = (read_text(cluster / "PG_VERSION") or "an unknown version").strip()
    if version != POSTGRES_MAJOR:
        raise DevError(
            f"{cluster} was created by PostgreSQL {version}, and this is {POSTGRES_MAJOR};"
            " dump it with that version, or remove it to start with an empty one"
        )


def remove_stale_pid_file(cluster: Path) -> None:
    """Remove postmaster.pid, or raise DevError if it names a running PostgreSQL.

    PostgreSQL takes any process with that id for a server, even a zombie, or another program after a reboot. Call this
    after our own servers have stopped: a remaining PostgreSQL was then started manually.
    """
    path = cluster / "postmaster.pid"
    lines = (read_text(path) or "").splitlines()
    if not lines:
        return
    for process in living_processes():
        if str(process.pid) == lines[0].strip() and re.search(r"(^|/)postgres( |$)", process.command):
            raise DevError(f"a manually started PostgreSQL uses {cluster} (process {process.pid}); stop it first")
    path.unlink()


def write_configuration(placement: Placement, socket_folder: Path, settings: dict[str, object]) -> Path:
    """Write postgresql.conf with `settings`, and the access rules: only the current user and root, over the socket.

    The files are outside the cluster, so that the server cannot change them, and rewritten at each start.
    Raises DevError if they cannot be written.
    """
    users = {"root", _current_user()}
    access = _write(placement, "pg_hba.conf", f"local all {SUPERUSER} peer map=dev\n")
    names = _write(placement, "pg_ident.conf", "".join(f'dev "{user}" {SUPERUSER}\n' for user in sorted(users)))
    configuration = {
        "data_directory": placement.cluster,
        "hba_file": access,
        "ident_file": names,
        "listen_addresses": "",
        "unix_socket_directories": socket_folder,
        "unix_socket_permissions": "0700",
        **settings,
    }
    lines = (f"{name} = {_quoted(value)}\n" for name, value in configuration.items())
    return _write(placement, "postgresql.conf", "".join(lines))


def _current_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise DevError(
            f"PostgreSQL requires a user name, and user {os.geteuid()} has none;"
            " run as another user, or set KATAVEN_DATABASE_URL"
        ) from None


def _quoted(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _write(placement: Placement, name: str, text: str) -> Path:
    """Write a file that the server's user can read and only the current user can change. It contains no secret."""
    path = placement.home / name
    write_private(path, text)
    if placement.uid is not None:
        path.chmod(0o644)
    return path
