"""Serves the API app and the Hub app in one process, and dispatches by the `Host` header."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kataven.web.paths import WsgiApp


class ByHost:
    """WSGI middleware that sends requests for `hub_host` to `hub` and all others to `otherwise`."""

    def __init__(self, hub_host: str, hub: WsgiApp, otherwise: WsgiApp) -> None:
        self._hub_host = hub_host.lower()
        self._hub = hub
        self._otherwise = otherwise

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").rpartition("@")[2].lower()
        if host == self._hub_host or host.rpartition(":")[0] == self._hub_host:
            return self._hub(environ, start_response)
        return self._otherwise(environ, start_response)
