"""gunicorn: how many workers, how patient, and what begins only after the fork.

gunicorn -c gunicorn.conf.py wsgi:api      the API
gunicorn -c gunicorn.conf.py wsgi:hub      the Hub, a service of its own
"""

import contextlib
import gc
import os
import socket
import sys
from typing import Any

from gunicorn.sock import close_sockets

from kataven import settings
from kataven.web import metrics_folder
from kataven.web.server import crash
from kataven.web.server.timeouts import SocketTimeouts

bind = os.environ.get("BIND") or f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
# A request is mostly Python, so a core feeds a worker; threads are for requests that wait for a database.
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
workers = int(os.environ.get("WORKERS") or max(2, cores))
os.environ.setdefault("KATAVEN_WORKERS", str(workers))
# Ours: no thread waits for a slow client. docs/decisions/0073-request-threads-do-not-wait-for-slow-clients.md
worker_class = "kataven.web.server.worker.BufferingWorker"
logger_class = "kataven.web.server.logger.JsonLogger"
threads = int(os.environ.get("THREADS", "8"))
# Built once, before the fork, which is the same for all: a worker begins in milliseconds and shares its memory.
# Building connects to nothing and starts nothing. New code needs a new master (USR2, or a restart); HUP only renews
# the workers.
preload_app = True
# A worker that says nothing for so long is killed; it speaks up every second, whatever its threads do.
timeout = 30
# What SIGTERM, and a reload, leave to the requests under way: the longest that one may take, and some more.
graceful_timeout = 30
# Longer than the 60 s that load balancers keep idle connections, so that it is never us who closes first.
keepalive = 75
# What leaks in a library, if anything, ends with the worker; the jitter keeps the workers from going together.
max_requests = int(os.environ.get("MAX_REQUESTS", "100000"))
max_requests_jitter = max_requests // 10

# A token may have 8 KiB, and a longer one deserves our own answer rather than gunicorn's page.
limit_request_field_size = 65_536
limit_request_line = 8_190
# The one that is tested; `auto` takes another where it happens to be installed.
http_parser = "python"

# Whom to believe about the client's address is the application's decision (KATAVEN_TRUSTED_PROXIES).
forwarded_allow_ips = ""
# On a Unix socket gunicorn believes every client, whatever the line above says: so there is nothing to believe.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

# One line for each request comes from the application, which knows whose it is.
accesslog = None
# Metrics are kept in files that all workers map; the library reads the variable when it is imported.
metrics_folder.make(os.environ)
control_socket_disable = True
proc_name = "kataven"


def on_starting(server: Any) -> None:
    """Say once, in the master, what is wrong with the environment; workers would only say it again and again."""
    try:
        settings.load(settings.development_environ(os.environ))
    except settings.SettingsError as error:
        sys.exit("\n".join(["The configuration can't be used:", *(f"  {problem}" for problem in error.problems)]))


def when_ready(server: Any) -> None:
    """Refuse a Unix socket without a proxy. Put what is built out of the collector's reach: a collection would write
    to every page that workers share."""
    proxies = settings.load(settings.development_environ(os.environ)).trusted_proxies
    if not proxies and any(listener.sock.family == socket.AF_UNIX for listener in server.LISTENERS):
        close_sockets(server.LISTENERS)
        sys.exit(
            "The configuration can't be used:\n  KATAVEN_TRUSTED_PROXIES: is 0, and clients of a Unix socket have no "
            "address, so all of them would share one budget; set it to the number of proxies in front (1 for nginx on "
            "this host), or bind to an address (BIND=127.0.0.1:8000)"
        )
    gc.collect()
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """In the worker, after the fork: threads, connections and the lease begin here."""
    # A thread that waits for a revocation gets the interpreter within 0.5 ms of its message, also under load: the
    # default of 5 ms was measured to triple the slowest evictions.
    sys.setswitchinterval(0.0005)
    services = worker.app.callable.extensions["kataven"]
    configured = settings.load(settings.development_environ(os.environ))
    worker.set_timeouts(
        SocketTimeouts(
            head_seconds=configured.head_seconds,
            body_seconds=configured.body_seconds,
            bytes_per_second=configured.body_bytes_per_second,
            connections=configured.worker_connections,
        )
    )
    worker.on_refusal = lambda reason: services.metrics.connections_refused.labels(reason).inc()
    services.start()
    # A worker that crashes, or is killed since it hangs, leaves its stacks to the master.
    crash.watch(os.environ[metrics_folder.FOLDER_VARIABLE])


def child_exit(server: Any, worker: Any) -> None:
    """In the master: what the worker counted goes on counting."""
    with contextlib.suppress(OSError):
        crash.report(os.environ[metrics_folder.FOLDER_VARIABLE], worker.pid)
        metrics_folder.merge_exited(os.environ[metrics_folder.FOLDER_VARIABLE], worker.pid)


def on_exit(server: Any) -> None:
    """In the master, last of all."""
    metrics_folder.remove(os.environ)


def worker_exit(server: Any, worker: Any) -> None:
    """Write what is noted, give the lease and the slots back."""
    application = getattr(worker.app, "callable", None)
    if application is not None:
        application.extensions["kataven"].stop()
