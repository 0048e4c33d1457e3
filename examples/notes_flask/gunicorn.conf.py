"""gunicorn's settings. The hooks make each worker a member of the fleet before it serves its first request."""

import os

from kataven.flask.gunicorn_hooks import post_worker_init, worker_exit

__all__ = ["post_worker_init", "worker_exit"]

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8010')}"
workers = int(os.environ.get("WORKERS", "2"))
threads = 4
preload_app = True
control_socket_disable = True
