"""The programs that rows need, and the Debian packages that contain them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

PACKAGES = {
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "redis-sentinel": "redis-sentinel",
    "haproxy": "haproxy",
    "patroni": "patroni",
    "etcd": "etcd-server",
    "pgbouncer": "pgbouncer",
    "postgres": "postgresql",
    "ip": "iproute2",
    "tc": "iproute2",
}
_SYSTEM_FOLDERS = (Path("/usr/sbin"), Path("/sbin"), Path("/usr/local/sbin"))
_POSTGRES_VERSIONS = Path("/usr/lib/postgresql")


class MissingPrograms(Exception):
    """Raised if programs are not installed. The message names their packages."""

    def __init__(self, programs: Iterable[str]) -> None:
        missing = sorted(programs)
        packages = sorted({PACKAGES[name] for name in missing})
        super().__init__(
            f"not installed: {', '.join(missing)}; install the Debian packages: "
            f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
        )
        self.packages = packages


def program(name: str) -> Path:
    """The path of a program. Raises MissingPrograms."""
    found = _find(name)
    if found is None:
        raise MissingPrograms([name])
    return found


def require(names: Iterable[str]) -> None:
    """Raise MissingPrograms, with all packages that are missing, unless every program is installed."""
    missing = [name for name in names if _find(name) is None]
    if missing:
        raise MissingPrograms(missing)


def _find(name: str) -> Path | None:
    if name == "postgres":
        return _newest_postgres()
    for folder in _SYSTEM_FOLDERS:  # not on every user's PATH
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


def _newest_postgres() -> Path | None:
    versions = sorted(_POSTGRES_VERSIONS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return versions[-1] if versions else None
