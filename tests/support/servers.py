"""Inspects real servers, directories and processes from outside."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

import psycopg2

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.processes import living_processes

AS_ROOT = os.geteuid() == 0
EXIT_SECONDS = 60


def ask(server: EmbeddedPostgres, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    """The committed rows that `statement` returns."""
    connection = psycopg2.connect(server.url(database).replace("+psycopg2", ""))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_above(path: Path) -> dict[Path, int]:
    """The mode of every directory on `path`."""
    return {folder: mode(folder) for folder in path.absolute().parents}


def pids_that_mention(word: str) -> list[int]:
    """Other processes with `word` on their command line."""
    return [process.pid for process in living_processes() if word in process.command and process.pid != os.getpid()]


def wait_for_exit(pid: int) -> None:
    """Wait until the process has exited (a zombie counts as exited). Fails after a minute."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], EXIT_SECONDS)
        assert ended, f"process {pid} is still there"
    finally:
        os.close(descriptor)
