"""A PostgreSQL cluster on disk: made whole or not at all, its configuration, and PostgreSQL's own lock file in it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from kataven.dev.binaries import POSTGRES_MAJOR
from kataven.dev.errors import DevError
from kataven.dev.files import PRIVATE, read_text, write_private
from kataven.dev.leftovers import living_processes
from kataven.dev.placement import Placement
from kataven.dev.processes import through_launcher
from kataven.dev.unprivileged import give_away, initdb_uid

SUPERUSER = "kataven"
ENVIRON = {"LC_ALL": "C", "PATH": os.defpath}
"""For PostgreSQL's programs. Nothing of ours: PGDATA, PGHOST and their like would change what they do."""


def make_cluster(placement: Placement, log: Path, *, sync: bool) -> None:
    """Run initdb beside the cluster's place and rename the result: half a cluster is never met again.

    Raises DevError with initdb's reason; all that it said goes to `log`.
    """
    partial = placement.home / "cluster.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=PRIVATE)
    uid = None if placement.uid is None else initdb_uid()
    if uid is not None:
        os.chown(partial, uid, uid)
    _initdb(placement, partial, uid, log, sync=sync)
    if placement.uid is not None:
        give_away(partial, placement.uid)
    partial.replace(placement.cluster)


def _initdb(placement: Placement, folder: Path, uid: int | None, log: Path, *, sync: bool) -> None:
    command: list[str | Path] = [placement.programs / "initdb", "--pgdata", folder, "--username", SUPERUSER]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--auth-local=peer", "--auth-host=reject", "--no-instructions"]
    command += [] if sync else ["--no-sync"]
    done = subprocess.run(  # noqa: S603 - our own initdb; no shell
        through_launcher(command, signal.SIGTERM, uid),
        cwd=placement.home,
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        write_private(log, done.stdout + done.stderr)
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise DevError(f"initdb failed: {reason.removeprefix('initdb: ')}; all that it said is in {log}")


def require_our_version(cluster: Path) -> None:
    """Raise DevError if another major version of PostgreSQL made the cluster: ours can't read it."""
    version = (read_text(cluster / "PG_VERSION") or "an unknown version").strip()
    if version != POSTGRES_MAJOR:
        raise DevError(
            f"{cluster} was made by PostgreSQL {version}, and this is {POSTGRES_MAJOR};"
            " dump it with that version, or remove it to begin anew"
        )


def remove_stale_pid_file(cluster: Path) -> None:
    """Remove postmaster.pid unless the process that it names is a PostgreSQL; raise DevError if it is.

    PostgreSQL takes any process of that id for a server, a zombie too, or somebody else's after a reboot. To be called
    when our own servers have ended: one that lives was started by hand, and must not get company.
    """
    path = cluster / "postmaster.pid"
    lines = (read_text(path) or "").splitlines()
    if not lines:
        return
    for process in living_processes():
        if str(process.pid) == lines[0].strip() and re.search(r"(^|/)postgres( |$)", process.command):
            raise DevError(f"a PostgreSQL started by hand uses {cluster} (process {process.pid}); stop it first")
    path.unlink()


def write_configuration(placement: Placement, socket_folder: Path, settings: dict[str, object]) -> Path:
    """Write postgresql.conf, with `settings`, and who may connect: through `socket_folder` only, we and root only.

    Outside of the cluster, so that the server can't change it, and anew at every start. Raises DevError.
    """
    users = {"root", _our_name()}
    access = _write(placement, "pg_hba.conf", f"local all {SUPERUSER} peer map=dev\n")
    names = _write(placement, "pg_ident.conf", "".join(f'dev "{user}" {SUPERUSER}\n' for user in sorted(users)))
    everything = {
        "data_directory": placement.cluster,
        "hba_file": access,
        "ident_file": names,
        "listen_addresses": "",
        "unix_socket_directories": socket_folder,
        "unix_socket_permissions": "0700",
        **settings,
    }
    lines = (f"{name} = {_quoted(value)}\n" for name, value in everything.items())
    return _write(placement, "postgresql.conf", "".join(lines))


def _our_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise DevError(
            f"PostgreSQL needs a user with a name, and user {os.geteuid()} has none;"
            " run as another user, or set KATAVEN_DATABASE_URL"
        ) from None


def _quoted(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _write(placement: Placement, name: str, text: str) -> Path:
    """A file that the server may read and we alone may write; it holds no secret."""
    path = placement.home / name
    write_private(path, text)
    if placement.uid is not None:
        path.chmod(0o644)
    return path
