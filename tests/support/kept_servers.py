"""PostgreSQL and Redis servers that outlive a pytest run: `pytest --reuse-servers`.

A slot is a folder with a PostgreSQL and two Redis servers, which a keeper process starts and stops. A run takes a free
slot for each of its processes, locks it until it ends, and empties the servers first, so a run finds what it finds on
new servers. A keeper that no run has used for an hour exits.

python -m tests.support.kept_servers --stop     stop the servers of this checkout
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import redis
from filelock import FileLock, Timeout

from kataven.dev import embedded
from kataven.dev.embedded.binaries import postgres_programs
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import passable_folder
from kataven.dev.embedded.lock import FolderLock
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from tests.support.gunicorn import CHECKOUT
from tests.support.waiting import wait_until

IDLE_SECONDS = 3600
START_SECONDS = 60


class KeptPostgres(EmbeddedPostgres):
    """The URLs of a PostgreSQL that a keeper runs."""

    @property
    def _socket_folder(self) -> Path:
        return (self._data_dir / "socket").readlink()


class KeptRedis(EmbeddedRedis):
    """The URL of a Redis that a keeper runs."""

    @property
    def _socket_folder(self) -> Path:
        return (self._data_dir / "socket").readlink()


@dataclass(frozen=True)
class Slot:
    """The servers in one folder."""

    folder: Path

    @property
    def postgres(self) -> KeptPostgres:
        return KeptPostgres(self.folder / "postgres", fsync=False)

    @property
    def redis(self) -> KeptRedis:
        return KeptRedis(self.folder / "redis", persistent=False)

    @property
    def shared_redis(self) -> KeptRedis:
        return KeptRedis(self.folder / "shared-redis", persistent=False)

    @property
    def used(self) -> FileLock:
        """The lock of the run that uses the servers, or of the keeper that stops them."""
        return FileLock(self.folder / "used", blocking=False, thread_local=False)

    @property
    def ready(self) -> Path:
        """Exists while the servers run."""
        return self.folder / "ready"

    def is_kept(self) -> bool:
        """Whether a keeper runs."""
        lock = FolderLock(self.folder)
        try:
            lock.acquire()
        except DevError:
            return True
        lock.release()
        return False


def root() -> Path:
    """The folder of this checkout's slots. Another version of the embedded servers uses another folder."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(embedded.__path__[0]).glob("*.py")))
    identity = f"{CHECKOUT}\n{postgres_programs()}\n".encode() + sources
    name = f"kataven-test-servers-{os.geteuid()}-{hashlib.sha256(identity).hexdigest()[:16]}"
    return Path(tempfile.gettempdir()) / name


@contextlib.contextmanager
def taken_slot(folder: Path) -> Iterator[Slot]:
    """The servers of a free slot in `folder`, running and empty. No other run uses them within the `with` block."""
    _own(folder)
    slot, used = _free_slot(folder)
    try:
        if not slot.is_kept():
            _start_keeper(slot)
        _empty(slot)
        yield slot
    finally:
        os.utime(slot.folder / "used")  # when it was used last
        used.release()


def stop(folder: Path) -> int:
    """Stop the keepers of all slots that no run uses. Returns their number."""
    stopped = 0
    for slot in map(Slot, sorted(folder.glob("[0-9]*"))):
        with contextlib.suppress(Timeout), slot.used:
            if slot.is_kept():
                os.kill(int((slot.folder / "lock").read_text()), signal.SIGTERM)
                wait_until(lambda slot=slot: not slot.is_kept(), START_SECONDS)  # type: ignore[misc]
                stopped += 1
    return stopped


def keep(slot: Slot, idle_seconds: float = IDLE_SECONDS) -> None:
    """Run the servers of a slot until a signal, or until no run has used them for `idle_seconds`."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    lock = FolderLock(slot.folder)
    lock.acquire()
    with (
        EmbeddedPostgres(slot.folder / "postgres", fsync=False),
        EmbeddedRedis(slot.folder / "redis", persistent=False),
        EmbeddedRedis(slot.folder / "shared-redis", persistent=False),
        contextlib.ExitStack() as until_stopped,
    ):
        slot.ready.touch()
        until_stopped.callback(slot.ready.unlink)
        while not stopped.wait(min(60, idle_seconds)):
            with contextlib.suppress(Timeout):
                if time.time() - (slot.folder / "used").stat().st_mtime > idle_seconds:
                    until_stopped.enter_context(slot.used)  # a run that starts now takes another slot
                    break
    lock.release()


def _free_slot(folder: Path) -> tuple[Slot, FileLock]:
    """The first slot that no run uses, and its lock, which this process holds."""
    for number in itertools.count():
        slot = Slot(passable_folder(folder / str(number)))
        used = slot.used
        with contextlib.suppress(Timeout):
            used.acquire()
            return slot, used
    raise AssertionError("unreachable")


def _own(folder: Path) -> None:
    passable_folder(folder)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise DevError(f"{folder} belongs to another user; remove it, or run without --reuse-servers")


def _start_keeper(slot: Slot) -> None:
    slot.ready.unlink(missing_ok=True)
    with (slot.folder / "keeper.log").open("w") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, "--keep", slot.folder],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_until(
        lambda: slot.ready.exists() or keeper.poll() is not None,
        START_SECONDS,
        lambda: (slot.folder / "keeper.log").read_text(),
    )
    if keeper.poll() is not None:
        raise DevError(f"the servers did not start: {(slot.folder / 'keeper.log').read_text()}")
    keeper.returncode = 0  # it outlives this process, which must not warn about it


def _empty(slot: Slot) -> None:
    for server in (slot.redis, slot.shared_redis):
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
            client.script_flush()
    connection = psycopg2.connect(slot.postgres.url("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')")
        for (database,) in cursor.fetchall():
            name = database.replace('"', '""')
            cursor.execute(f'ALTER DATABASE "{name}" WITH IS_TEMPLATE false')
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        cursor.execute("SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolname !~ '^pg_'")
        for (role,) in cursor.fetchall():
            name = role.replace('"', '""')
            cursor.execute(f'DROP ROLE "{name}"')


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.kept_servers")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--keep", type=Path, metavar="FOLDER", help="run the servers of a slot; pytest starts this")
    action.add_argument("--stop", action="store_true", help="stop the servers of this checkout")
    given = parser.parse_args()
    if given.stop:
        sys.stdout.write(f"stopped {stop(root())} sets of servers\n")
    else:
        keep(Slot(given.keep))


if __name__ == "__main__":
    main()
