"""A forked child opens its own connections to the system database."""

from __future__ import annotations

import subprocess
import sys

from kataven.dev.embedded.postgres import EmbeddedPostgres

SCRIPT = """
import gc, os, sys, time
from dataclasses import replace
from sqlalchemy import text
from kataven.system import database as module
from kataven.system.database import SystemDatabase

# The parent waits for the child in a transaction, for as long as that takes on a busy machine.
module._CONNECTION = replace(module._CONNECTION, idle_in_transaction_timeout_seconds=60)
database = SystemDatabase(sys.stdin.readline().strip())
BACKEND = text("SELECT pg_backend_pid()")

def backend():
    with database.reading() as session:
        return session.scalar(BACKEND)

mine = backend()
registry = database._registry
registry._limits = replace(registry._limits, hold=60)
with database.writing() as session:  # the child must not cut its parent's connections
    session.execute(text("CREATE TEMPORARY TABLE mine () ON COMMIT DROP"))
    budget = registry._budget
    budget.changed.acquire()  # as another thread might hold it
    child = os.fork()
    if child == 0:
        registry._limits = replace(registry._limits, hold=0.5, sweep=0.1)
        theirs = backend()
        assert theirs != mine and theirs == backend()
        time.sleep(1)  # several sweeps of the child
        gc.collect()
        os._exit(0)
    budget.changed.release()
    status = os.waitpid(child, 0)[1]
    session.execute(text("SELECT * FROM mine"))
assert backend() == mine
print("child", os.waitstatus_to_exitcode(status))
"""


def test_parent_and_child_never_share_a_connection(postgres: EmbeddedPostgres) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    url = postgres.url("postgres")  # not among the arguments, which another test reads of all processes
    done = subprocess.run(command, input=f"{url}\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 0\n", "")
