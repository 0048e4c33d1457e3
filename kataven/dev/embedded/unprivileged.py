"""PostgreSQL does not run as root: chooses the user that runs it instead, and checks what that user can reach."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
from pathlib import Path

from kataven.dev.embedded.errors import DevError

SERVER_UID = 65_525
"""A user id that nothing else uses: Debian policy 9.2.2 reserves 65000 to 65533, and systemd's table leaves 65520 to
65533 unused. Not `nobody`, because its other processes could then read the databases. It has 16 bits, so containers map
it too."""


def server_uid(cluster: Path) -> int | None:
    """For root, the user that runs PostgreSQL: the owner of `cluster` if it exists, else SERVER_UID. Otherwise None."""
    if os.geteuid() != 0:
        return None
    owner = cluster.stat().st_uid if cluster.exists() else 0
    return owner or SERVER_UID


def initdb_uid() -> int:
    """The user that runs `initdb` for root. `initdb` requires a user name, so this is `nobody`, temporarily."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        raise DevError(
            "PostgreSQL does not run as root, and the user `nobody` does not exist;"
            " run as an ordinary user, or set KATAVEN_DATABASE_URL"
        ) from None


def can_enter(folder: Path, uid: int) -> bool:
    """Whether `uid` can enter `folder`. This is tried, because modes are not the only rules."""
    return _succeeds(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], uid)


def can_run(program: Path, uid: int) -> bool:
    """Whether `uid` can run `program` with the libraries that it loads."""
    return _succeeds([str(program), "--version"], uid)


def _succeeds(command: list[str], uid: int) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; no shell
            command, user=uid, group=uid, extra_groups=[], cwd="/", env={"LC_ALL": "C"}, capture_output=True
        )
    except OSError as error:
        if error.errno in {errno.EACCES, errno.ENOENT}:  # the program, or its loader, is out of reach
            return False
        raise DevError(
            "PostgreSQL does not run as root, and root cannot become another user here;"
            " run as an ordinary user, or set KATAVEN_DATABASE_URL"
        ) from error
    return done.returncode == 0


def change_owner(folder: Path, uid: int) -> None:
    """Make `uid` the owner of `folder` and everything in it, without following links."""
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, uid, uid)
