"""`wsgi:api` whose revokers die after their commit: no event is published, and no receipt is returned."""

from __future__ import annotations

import os
import signal
from typing import Any

from flask import Flask

import wsgi
from kataven.web.services import EXTENSION, Services

api: Flask = wsgi.api
_services: Services = api.extensions[EXTENSION]


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_revocation: Any = _services.revocation
_revocation.revoke = _die
