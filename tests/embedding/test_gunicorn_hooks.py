"""gunicorn's hooks, with the worker that gunicorn passes to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from kataven.flask import Kataven, UndeclaredRoutes
from kataven.flask.extension import membership_of
from kataven.flask.gunicorn_hooks import post_worker_init, worker_exit
from kataven.settings import Settings


def worker_of(app: Any) -> Any:
    return SimpleNamespace(app=SimpleNamespace(callable=app, wsgi=lambda: app))


def test_worker_joins_after_the_fork_and_leaves_at_its_exit(configured: Settings) -> None:
    app = Flask("hooked", static_folder=None)
    Kataven(app, settings=configured)
    assert not membership_of(app).joined
    post_worker_init(worker_of(app))
    assert membership_of(app).joined
    worker_exit(None, worker_of(app))
    assert not membership_of(app).joined


def test_route_without_a_declaration_keeps_the_worker_from_starting(configured: Settings) -> None:
    app = Flask("hooked", static_folder=None)
    Kataven(app, settings=configured)
    app.get("/forgotten", endpoint="forgotten")(lambda: "")
    with pytest.raises(UndeclaredRoutes, match="GET /forgotten"):
        post_worker_init(worker_of(app))
    assert not membership_of(app).joined
    worker_exit(None, worker_of(app))


def test_application_that_is_not_a_flask_object_is_named() -> None:
    with pytest.raises(TypeError, match=r"Assign middleware to `app\.wsgi_app`"):
        post_worker_init(worker_of(object()))
    worker_exit(None, worker_of(None))  # the application could not be imported
