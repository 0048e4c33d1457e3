"""The services of `kataven`. Each is created when the command first uses it, and connects on first use.

A command is not a worker: it holds no lease, serves no request and starts no background thread of the apps. It revokes
in the same way as they do.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kataven import assembly, logs

if TYPE_CHECKING:
    from kataven.authservice.client import AuthServiceChannel
    from kataven.identity.issuer import Issuer
    from kataven.identity.scopes import KnownScopes
    from kataven.ratelimit.limiter import Limiter
    from kataven.revocation.revocation import Revocation
    from kataven.settings import Settings
    from kataven.system.directory import Directory
    from kataven.tenancy.serving.registry import EngineRegistry
    from kataven.web.internal_access import InternalAccess
    from kataven.web.metrics import Metrics


class ProgramServices:
    """Implements `OperatorServices` of the operations with the settings of this process."""

    def __init__(self, settings: Settings) -> None:
        logs.install()
        self._settings = settings
        parts = assembly.foundation(settings)
        self.directory: Directory = parts.directory
        self.registry: EngineRegistry = parts.registry
        self.revocation: Revocation = parts.revocation

    @cached_property
    def issuer(self) -> Issuer:
        """The issuer with the peppers of this process, or the auth-service if it has them."""
        if self.auth_service is None:
            return assembly.local_issuer(self._settings)
        from kataven.authservice.client import RemoteIssuer

        return RemoteIssuer(self.auth_service)

    @cached_property
    def scopes(self) -> KnownScopes:
        """The scopes of the API, of its blueprints and of the settings."""
        from kataven.identity.scopes import KnownScopes

        known = KnownScopes(self._settings.scopes)
        if self._settings.blueprints:
            from kataven.web.third_party import scopes_of

            known.add(scopes_of(self._settings.blueprints))
        return known

    @cached_property
    def auth_service(self) -> AuthServiceChannel | None:
        """None if this process has the peppers."""
        if self._settings.auth_service is None:
            return None
        from kataven.authservice.client import AuthServiceChannel
        from kataven.authservice.tls import TlsFiles

        tls = TlsFiles(*self._settings.auth_tls) if self._settings.auth_tls else None
        return AuthServiceChannel(self._settings.auth_service, tls)

    @cached_property
    def limiter(self) -> Limiter:
        """The limits of the API, to reset the counters of an account."""
        from kataven.ratelimit.limiter import Limiter

        return Limiter.at(self._settings.redis_url.get_secret_value(), app="api", workers=self._settings.workers)

    @cached_property
    def metrics(self) -> Metrics:
        """Counts the receipts of this process, for the canary."""
        from kataven.web.metrics import Metrics

        metrics = Metrics()
        self.revocation.canary.subscribe(metrics.record_receipt)
        return metrics

    @cached_property
    def internal_access(self) -> InternalAccess:
        from kataven.web.internal_access import InternalAccess

        token = self._settings.metrics_token
        return InternalAccess(
            None if token is None else token.get_secret_value(), trust_loopback=self._settings.development
        )

    def close(self) -> None:
        """Close the connections. A command need not call this, because its process ends."""
        self.revocation.stop()
        self.directory.database.close()
        self.registry.close()
        channel = self.__dict__.get("auth_service")  # not created only to be closed
        if channel is not None:
            channel.close()
