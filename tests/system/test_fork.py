"""A forked child of a process that has spoken with the system database speaks on connections of its own."""

from __future__ import annotations

import subprocess
import sys

from kataven.dev.embedded.postgres import EmbeddedPostgres

SCRIPT = """
import gc, os, sys, threading, time
from sqlalchemy import text
from kataven.system import database as module
from kataven.system.database import SystemDatabase

module.PATIENCE_SECONDS = 0.5
database = SystemDatabase(sys.stdin.readline().strip())
BACKEND = text("SELECT pg_backend_pid()")

def backend():
    with database.reading() as session:
        return session.scalar(BACKEND)

mine = backend()
with database.writing() as session:  # the child must not cut what its parent waits for, however long that takes
    session.execute(text("CREATE TEMPORARY TABLE mine () ON COMMIT DROP"))
    database._breaking.acquire()  # as another thread might hold it
    child = os.fork()
    if child == 0:
        theirs = backend()
        assert theirs != mine and theirs == backend()
        time.sleep(1)  # two looks of the child's watch
        gc.collect()
        os._exit(0)
    database._breaking.release()
    status = os.waitpid(child, 0)[1]
    session.execute(text("SELECT * FROM mine"))
assert backend() == mine
print("child", os.waitstatus_to_exitcode(status))
"""


def test_parent_and_child_do_not_meet_on_a_connection(postgres: EmbeddedPostgres) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    url = postgres.url("postgres")  # not among the arguments, which another test reads of all processes
    done = subprocess.run(command, input=f"{url}\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 0\n", "")
