"""PostgreSQL refuses to run as root: who runs it then, and whether that user can get where it must."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
from pathlib import Path

from kataven.dev.errors import DevError

SERVER_UID = 65_525
"""A user that nothing else has: Debian policy 9.2.2 reserves 65000 to 65533, and systemd's table leaves 65520 to 65533
unused. Not `nobody`, whose other processes could then read the databases. Within 16 bits, so containers map it too."""


def server_uid(cluster: Path) -> int | None:
    """As root, the user to run PostgreSQL as: the owner of an existing `cluster`, else SERVER_UID. None: as we are."""
    if os.geteuid() != 0:
        return None
    owner = cluster.stat().st_uid if cluster.exists() else 0
    return owner or SERVER_UID


def initdb_uid() -> int:
    """`initdb` wants a user with a name, so it runs as `nobody`; the cluster is given away when it is done."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        raise DevError(
            "PostgreSQL refuses to run as root, and there is no user `nobody`;"
            " run as an ordinary user, or set KATAVEN_DATABASE_URL"
        ) from None


def can_enter(folder: Path, uid: int) -> bool:
    """Whether the user `uid` may pass through `folder` and everything above it, by trial: modes alone don't tell."""
    return _succeeds(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], uid)


def can_run(program: Path, uid: int) -> bool:
    """Whether the user `uid` may run `program` with the libraries that it loads."""
    return _succeeds([str(program), "--version"], uid)


def _succeeds(command: list[str], uid: int) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; no shell
            command, user=uid, group=uid, extra_groups=[], cwd="/", env={"LC_ALL": "C"}, capture_output=True
        )
    except OSError as error:
        if error.errno in {errno.EACCES, errno.ENOENT}:  # the program, or the loader it names, is out of reach
            return False
        raise DevError(_CANNOT_CHANGE_USER) from error
    return done.returncode == 0


_CANNOT_CHANGE_USER = (
    "PostgreSQL refuses to run as root, and root may not become another user here;"
    " run as an ordinary user, or set KATAVEN_DATABASE_URL"
)


def give_away(folder: Path, uid: int) -> None:
    """Make `uid` the owner of `folder` and everything in it, without following links."""
    os.chown(folder, uid, uid)
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.lchown(os.path.join(above, name), uid, uid)
