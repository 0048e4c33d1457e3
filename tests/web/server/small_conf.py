"""gunicorn's configuration for `small.py`: one worker, whose limits come from the environment."""

from __future__ import annotations

import os
from typing import Any

from kataven.web.server.request_threads import Lane, QueueLimits
from kataven.web.server.timeouts import SocketTimeouts
from tests.web.server import small

bind = os.environ.get("BIND") or f"127.0.0.1:{os.environ['PORT']}"
workers = 1
threads = 2
worker_class = os.environ.get("WORKER_CLASS", "kataven.web.server.worker.BufferingWorker")
logger_class = "kataven.web.server.logger.JsonLogger"
http_parser = "python"
keepalive = int(os.environ.get("KEEPALIVE", "75"))
max_requests = int(os.environ.get("MAX_REQUESTS", "0"))
graceful_timeout = 30
limit_request_field_size = 65_536
control_socket_disable = True
forwarder_headers = os.environ.get("FORWARDER_HEADERS", "")
secure_scheme_headers: dict[str, str] = {}


def post_fork(server: Any, worker: Any) -> None:
    if "WAIT_SECONDS" in os.environ:
        worker.queue_limits = QueueLimits(wait_seconds=float(os.environ["WAIT_SECONDS"]))
        worker.lanes = {Lane.PROBE: (b"GET /environ",), Lane.URGENT: (b"GET /hold?urgent", b"POST /read")}


def post_worker_init(worker: Any) -> None:
    small.worker = worker
    if hasattr(worker, "set_timeouts"):
        worker.set_timeouts(
            SocketTimeouts(
                head_seconds=float(os.environ.get("HEAD_SECONDS", "10")),
                body_seconds=float(os.environ.get("BODY_SECONDS", "10")),
                grace_seconds=float(os.environ.get("GRACE_SECONDS", "3")),
                bytes_per_second=int(os.environ.get("BYTES_PER_SECOND", "4096")),
                connections=int(os.environ.get("CONNECTIONS", "1000")),
            )
        )
