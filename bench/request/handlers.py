"""The baselines of the request benchmark: the same list of agents, implemented in the obvious ways.

Each is a WSGI application for gunicorn. `BENCH_DATABASE` and `BENCH_REDIS` contain the servers' URLs, and `BENCH_KEY`
the accepted key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any

import flask
from flask_limiter import Limiter
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from kataven.account.models import Agent

PATH = "/v1/agents"
VERIFY_PATH = "/v1/verify"
FIELDS = [column.key for column in Agent.__table__.columns]


def _list_agents(engine: Engine) -> flask.Response:
    with Session(engine) as session:
        agents = session.scalars(select(Agent).order_by(Agent.created_at.desc(), Agent.id.desc()).limit(50)).all()
        return flask.jsonify([{name: getattr(agent, name) for name in FIELDS} for agent in agents])


def _app() -> flask.Flask:
    return flask.Flask(__name__)


def _engine(**options: Any) -> Engine:
    return create_engine(os.environ["BENCH_DATABASE"], **options)


def bare() -> flask.Flask:
    """(a) Only Flask under gunicorn."""
    app = _app()
    app.add_url_rule(PATH, view_func=lambda: flask.jsonify([]), endpoint="agents")
    return app


def orm() -> flask.Flask:
    """(b) The same SELECT of the same entities with SQLAlchemy's defaults, without credentials or limits."""
    app, engine = _app(), _engine()
    app.add_url_rule(PATH, view_func=lambda: _list_agents(engine), endpoint="agents")
    return app


def tuned() -> flask.Flask:
    """(b) in AUTOCOMMIT, without BEGIN and ROLLBACK."""
    app, engine = _app(), _engine(isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
    app.add_url_rule(PATH, view_func=lambda: _list_agents(engine), endpoint="agents")
    return app


def naive() -> flask.Flask:
    """A cached credential, Flask-Limiter with three limits and headers, and the ORM's defaults with pre-ping."""
    app, engine = _app(), _engine(pool_pre_ping=True)
    known = {hashlib.sha256(os.environ["BENCH_KEY"].encode()).digest(): "acme"}

    def account() -> str:
        return str(flask.g.account)

    @app.before_request
    def authenticate() -> None:
        presented = flask.request.headers.get("Authorization", "").removeprefix("Bearer ")
        digest = hashlib.sha256(presented.encode()).digest()
        for stored, name in known.items():
            if hmac.compare_digest(stored, digest):
                flask.g.account = name
                return
        flask.abort(401)

    Limiter(
        account,
        app=app,
        default_limits=["1000000/minute", "1000000/hour", "1000000/day"],
        headers_enabled=True,
        storage_uri=os.environ["BENCH_REDIS"].replace("unix:", "redis+unix:"),
    )
    app.add_url_rule(PATH, view_func=lambda: _list_agents(engine), endpoint="agents")
    app.add_url_rule(VERIFY_PATH, view_func=lambda: flask.jsonify(account=account()), endpoint="verify")
    return app
