"""The collaborators that a surface is built from; `app.py` makes them, the rooms use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, current_app

from kataven.account.last_used_tracker import LastUsedTracker
from kataven.authservice.client import AuthServiceChannel
from kataven.identity.issuer import Issuer
from kataven.identity.jwks import JwksClient
from kataven.identity.verifier import Verifier
from kataven.ratelimit.fallback_stats import FallbackCounters
from kataven.ratelimit.limiter import Limiter
from kataven.revocation.revocation import Revocation
from kataven.system.directory import Directory
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.web.internal_access import InternalAccess
from kataven.web.metrics import Metrics, Publisher
from kataven.widget.flows import Widget

EXTENSION = "kataven"


@dataclass(frozen=True)
class Services:
    """One process's collaborators. Nothing is connected before it is used, and nothing at all before the fork."""

    trusted_proxies: int
    directory: Directory
    registry: EngineRegistry
    verifier: Verifier
    issuer: Issuer
    limiter: Limiter
    fallback_stats: FallbackCounters
    revocation: Revocation
    last_used: LastUsedTracker
    widget: Widget
    metrics: Metrics
    internal_access: InternalAccess = field(default_factory=InternalAccess)
    """Who may see metrics, and how the installation stands."""

    _publisher: Publisher = field(init=False, repr=False)
    auth_service: AuthServiceChannel | None = None
    """None: credentials are verified in the process."""
    issuer_keys: JwksClient | None = None
    """Whose keys JWTs are verified with here; None where the auth-service does it."""

    closers: list[Callable[[], None]] = field(default_factory=list)
    """What a surface opened for itself, to be closed when the process stops."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_publisher", Publisher(self.metrics, lambda: self))

    def attach(self, app: Flask) -> None:
        app.extensions[EXTENSION] = self

    def start(self) -> None:
        """Begin the background work of this process. Call it after the fork."""
        self.revocation.start()
        self.limiter.start()
        self.registry.start()
        self.last_used.start()
        self._publisher.start()

    def stop(self) -> None:
        """End it: what is noted is written, the lease is given back, connections are closed."""
        self.last_used.stop()
        self.limiter.stop()
        self.revocation.stop()
        self.widget.store.close()
        for close in self.closers:
            close()
        self._publisher.stop()
        self.registry.close()
        self.directory.database.close()


def services() -> Services:
    """Those of the surface that serves this request."""
    found: Services = current_app.extensions[EXTENSION]
    return found
