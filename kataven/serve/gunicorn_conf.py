"""The configuration of gunicorn: workers, timeouts, and the work that starts after the fork.

gunicorn -c gunicorn.conf.py wsgi:api                                     in a checkout
gunicorn -c python:kataven.serve.gunicorn_conf kataven.serve.wsgi:api     anywhere: `python -m kataven.serve api`
"""

import contextlib
import gc
import os
import socket
import sys
from typing import Any

from gunicorn.sock import close_sockets

from kataven import settings
from kataven.assembly import require_usable_pooler
from kataven.web import metrics_folder, priorities
from kataven.web.server import crash
from kataven.web.server.timeouts import SocketTimeouts

bind = os.environ.get("BIND") or f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
# Requests are mostly CPU-bound, so one worker per core; threads serve requests that wait for a database.
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
workers = int(os.environ.get("WORKERS") or max(2, cores))
os.environ.setdefault("KATAVEN_WORKERS", str(workers))
# The project's worker class: no thread waits for a slow client.
# docs/decisions/0073-request-threads-do-not-wait-for-slow-clients.md
worker_class = "kataven.web.server.worker.BufferingWorker"
logger_class = "kataven.web.server.logger.JsonLogger"
threads = int(os.environ.get("THREADS", "8"))
# The app is built once, before the fork: workers start within milliseconds and share its memory. Building opens no
# connections and starts no threads. New code requires a new master (USR2 or a restart); HUP only replaces the workers.
preload_app = True
# A worker without a heartbeat for this long is killed. It sends one every second, independently of its threads.
timeout = 30
# Time for requests in progress after SIGTERM and during a reload: more than the longest request can take.
graceful_timeout = 30
# Longer than the usual 60 s of load balancers, so that the server never closes an idle connection first.
keepalive = 75
# Replaces workers regularly, which limits memory leaks in libraries. The jitter spreads the replacements.
max_requests = int(os.environ.get("MAX_REQUESTS", "100000"))
max_requests_jitter = max_requests // 10

# Tokens can have up to 8 KiB. For longer ones, the API returns its own error instead of gunicorn's page.
limit_request_field_size = 65_536
limit_request_line = 8_190
# The tested parser; `auto` selects another one if it is installed.
http_parser = "python"

# The application determines the client's address (KATAVEN_TRUSTED_PROXIES).
forwarded_allow_ips = ""
# On a Unix socket, gunicorn trusts every client regardless of the line above, so it must not read these headers.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

# The application writes the access log, because it knows the account and the principal.
accesslog = None
# Metrics are stored in files that all workers map. The library reads the variable at import.
metrics_folder.make(os.environ)
control_socket_disable = True
proc_name = "kataven"


def on_starting(server: Any) -> None:
    """Report configuration problems once, in the master, instead of in every worker."""
    try:
        require_usable_pooler(settings.load(settings.development_environ(os.environ)))
    except settings.SettingsError as error:
        sys.exit("\n".join(["The configuration is invalid:", *(f"  {problem}" for problem in error.problems)]))


def when_ready(server: Any) -> None:
    """Reject a Unix socket without a proxy. Create what requests need. Exclude the app's objects from garbage
    collection, because a collection would write to the memory pages that workers share."""
    proxies = settings.load(settings.development_environ(os.environ)).trusted_proxies
    if not proxies and any(listener.sock.family == socket.AF_UNIX for listener in server.LISTENERS):
        close_sockets(server.LISTENERS)
        sys.exit(
            "The configuration is invalid:\n  KATAVEN_TRUSTED_PROXIES: is 0, but clients of a Unix socket have no "
            "address, so all of them would share one address budget; set it to the number of proxies in front (1 for "
            "nginx on this host), or bind to an address (BIND=127.0.0.1:8000)"
        )
    server.app.wsgi().extensions["kataven"].prepare()
    gc.collect()
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """In the worker, after the fork: start threads, connections and the lease."""
    # A thread that waits for a revocation event gets the interpreter within 0.5 ms, even under load. With the default
    # of 5 ms, the slowest evictions took three times as long.
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
    worker.lanes = priorities.lanes()
    worker.on_refusal = lambda reason: services.metrics.connections_refused.labels(reason).inc()
    services.start()
    # If the worker crashes, or is killed because it hangs, the master logs its stacks.
    crash.watch(os.environ[metrics_folder.FOLDER_VARIABLE])


def child_exit(server: Any, worker: Any) -> None:
    """In the master: log the worker's stacks after a crash, and keep its counters."""
    with contextlib.suppress(OSError):
        crash.report(os.environ[metrics_folder.FOLDER_VARIABLE], worker.pid)
        metrics_folder.merge_exited(os.environ[metrics_folder.FOLDER_VARIABLE], worker.pid)


def on_exit(server: Any) -> None:
    """In the master, at the end: remove the metrics folder."""
    metrics_folder.remove(os.environ)


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker: store pending usage, release the lease and the slots."""
    application = getattr(worker.app, "callable", None)
    if application is not None:
        application.extensions["kataven"].stop()
