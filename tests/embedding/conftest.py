"""Applications that embed Kataven, as members of the fleet of the harness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from kataven import settings
from kataven.flask import Kataven
from kataven.flask.extension import INSTANCE
from kataven.settings import Settings
from tests.embedding.applications import fastapi_app, flask_app
from tests.embedding.asgi_client import AsgiClient
from tests.support.app_harness import AppHarness


@pytest.fixture(scope="session")
def configured(harness: AppHarness) -> Settings:
    return settings.load(harness.environ)


@pytest.fixture(scope="module")
def shop(configured: Settings) -> Iterator[Flask]:
    """A Flask application."""
    app = flask_app(configured)
    yield app
    kataven: Kataven = app.extensions[INSTANCE]
    kataven.stop(app)


@pytest.fixture(scope="module")
def asgi_shop(configured: Settings) -> Iterator[AsgiClient]:
    """A FastAPI application."""
    with AsgiClient(fastapi_app(configured)) as client:
        yield client
