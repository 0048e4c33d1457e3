"""A forked child starts empty and does not affect its parent's connections."""

import subprocess
import sys
from pathlib import Path

import pytest

from kataven.tenancy.directory import Tenant

FORK_IN_MID_TRANSACTION = """
import gc, os, sys, threading
from pathlib import Path
from sqlalchemy import make_url, text
from kataven.tenancy.directory import Tenant
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.registry import EngineRegistry, PoolLimits
from kataven.tenancy.serving.slots import HostSlots

tenant = Tenant("acme", make_url(sys.stdin.readline().strip()))
settings = ConnectionSettings(idle_in_transaction_timeout_seconds=60)
registry = EngineRegistry(PoolLimits(wait=0.1, hold=60), settings, host_slots=HostSlots(Path(sys.argv[1]), 3))
in_transaction, forked = threading.Event(), threading.Event()
BACKEND = text("SELECT pg_backend_pid()")

def backend():
    with registry.reading(tenant) as session:
        return session.execute(BACKEND).scalar_one()

def work():
    with registry.writing(tenant) as session:
        before = session.execute(BACKEND).scalar_one()
        session.execute(text("CREATE TEMPORARY TABLE mine () ON COMMIT DROP"))
        in_transaction.set()
        forked.wait(30)
        session.execute(text("SELECT * FROM mine"))
        assert session.execute(BACKEND).scalar_one() == before

registry.start()
worker = threading.Thread(target=work)
worker.start()
in_transaction.wait(30)
idle = backend()
child = os.fork()
if child == 0:
    assert registry.metrics().engines == registry.metrics().connections == 0
    gc.collect()
    assert backend() != idle
    assert registry.metrics().connections == 1
    registry.stop()
    registry.close()
    gc.collect()
    sys.exit(0)
status = os.waitpid(child, 0)[1]
forked.set()
worker.join()
with registry.reading(tenant) as one, registry.reading(tenant) as other:
    assert idle in {session.execute(BACKEND).scalar_one() for session in (one, other)}
registry.close()
print("child", os.waitstatus_to_exitcode(status))
"""

USE_THE_PARENTS_CONNECTION = """
import os, sys
from sqlalchemy import make_url, text
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.serving.registry import EngineRegistry
from psycopg2 import InterfaceError

registry = EngineRegistry()
with registry.reading(Tenant("acme", make_url(sys.stdin.readline().strip()))) as session:
    session.execute(text("SELECT 1"))
    raw = session.connection().connection.driver_connection
    child = os.fork()
    if child == 0:
        try:
            raw.cursor()
        except InterfaceError as error:
            raw.rollback()
            raw.close()
            os._exit(0 if "another process" in str(error) else 1)
    status = os.waitpid(child, 0)[1]
    assert session.execute(text("SELECT 2")).scalar_one() == 2
registry.close()
print("child", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("script", [FORK_IN_MID_TRANSACTION, USE_THE_PARENTS_CONNECTION])
def test_parent_and_child_never_share_a_connection(script: str, acme: Tenant, tmp_path: Path) -> None:
    url = acme.url.render_as_string(hide_password=False)
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        script,
        str(tmp_path),
    ]  # without the URL: every user can read arguments
    done = subprocess.run(command, input=f"{url}\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 0\n", "")
