"""Server hooks for gunicorn: join the fleet when a worker has started, and leave it when it exits.

In `gunicorn.conf.py` of the application:

    from kataven.flask.gunicorn_hooks import post_worker_init, worker_exit

Without the hooks, a worker joins at its first request. With them, routes without a declaration are a startup error.
"""

from __future__ import annotations

from typing import Any

from flask import Flask

from kataven.flask.extension import INSTANCE, membership_of


def post_worker_init(worker: Any) -> None:
    """In the worker, after the fork. If it raises, such as UndeclaredRoutes, gunicorn stops."""
    app = _flask_of(worker)
    app.extensions[INSTANCE].start(app)


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, before it exits."""
    if getattr(worker.app, "callable", None) is not None:
        membership_of(_flask_of(worker)).leave()


def _flask_of(worker: Any) -> Flask:
    app = worker.app.wsgi()
    if not isinstance(app, Flask):
        raise TypeError(
            "gunicorn's application is not a Flask object. Assign middleware to `app.wsgi_app`, or call "
            "`kataven.start(app)` in your own `post_worker_init`."
        )
    return app
