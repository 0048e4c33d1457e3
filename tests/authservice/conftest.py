"""The channel to the auth-service of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kataven.authservice.client import AuthServiceChannel
from tests.support.auth_service import Service


@pytest.fixture
def connection(service: Service) -> Iterator[AuthServiceChannel]:
    connected = AuthServiceChannel(service.address, deadline_seconds=1)
    yield connected
    connected.close()
