"""Malformed or incomplete forms return an error page, without a traceback."""

from __future__ import annotations

from typing import Any

import pytest

from kataven.web.server.errors import BodyError, BrokenBody, SlowBody
from tests.hub.conftest import Hub


class Broken:
    """`wsgi.input` as the server gives it."""

    def __init__(self, error: BodyError) -> None:
        self._error = error

    def read(self, _size: int = -1) -> bytes:
        raise self._error

    readline = read


@pytest.mark.parametrize(
    ("error", "status"), [(BrokenBody("InvalidChunkSize"), 400), (SlowBody(), 408)], ids=["broken", "slow"]
)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_malformed_form_returns_a_client_error(
    hub: Hub, error: BodyError, status: int, content_type: str, capfd: pytest.CaptureFixture[str]
) -> None:
    environ: dict[str, Any] = {"wsgi.input": Broken(error), "wsgi.input_terminated": True}
    response = hub.app.test_client().post("/sign-in", content_type=content_type, environ_overrides=environ)
    assert response.status_code == status
    assert "text/html" in response.content_type
    assert "Traceback" not in capfd.readouterr().err
