"""The collaborators of one process, which `kataven.application` creates and the request handlers use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import Flask, current_app

from kataven.account.last_used_tracker import LastUsedTracker
from kataven.account.people import SeenPeopleTracker
from kataven.identity.issuer import Issuer
from kataven.identity.scopes import KnownScopes
from kataven.identity.verifier import Verifier
from kataven.people.access import PeopleAccess
from kataven.people.confirmations import Confirmations
from kataven.ratelimit.fallback_stats import FallbackCounters
from kataven.ratelimit.limiter import Limiter
from kataven.revocation.revocation import Revocation
from kataven.system.directory import Directory
from kataven.system.response_history import ResponseHistory
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.usage.policy import UsagePolicy
from kataven.usage.recorder import UsageRecorder
from kataven.usage.refused_origins import RefusedOrigins
from kataven.web.internal_access import InternalAccess
from kataven.web.metrics import Metrics
from kataven.web.metrics_publisher import MetricsPublisher
from kataven.widget.flows import Widget

if TYPE_CHECKING:
    from kataven.authservice.client import AuthServiceChannel
    from kataven.identity.jwks import JwksClient

EXTENSION = "kataven"


@dataclass(frozen=True, slots=True)
class BackgroundService:
    """Something that runs, or holds connections, between `Services.start()` and `Services.stop()`."""

    name: str
    start: Callable[[], None] | None
    """None if it connects on first use."""
    stop: Callable[[], None]


@dataclass(frozen=True, slots=True)
class TraceExport:
    """The export of spans, if it is enabled."""

    background: BackgroundService
    install: Callable[[Flask], None]
    """Records a span for each request of an app."""


@dataclass(frozen=True, slots=True)
class SecurityContact:
    """Where to report a vulnerability of this deployment."""

    contact: str
    """A `mailto:` or `https:` URI."""

    policy: str | None
    """The URL of the disclosure policy."""

    urls: tuple[str, ...]
    """The public URLs of the apps that publish the contact."""


@dataclass(frozen=True)
class Services:
    """One process's collaborators. They connect on first use, and never before the fork."""

    trusted_proxies: int
    directory: Directory
    registry: EngineRegistry
    verifier: Verifier
    issuer: Issuer
    limiter: Limiter
    fallback_stats: FallbackCounters
    revocation: Revocation
    histories: ServerHistories
    """Whether a database server has lost commits."""
    journal_replay: BackgroundService
    """Applies the revocation journal to a server that has lost commits."""
    last_used: LastUsedTracker
    widget: Widget
    people: PeopleAccess
    """Ends the sessions of users, and blocks users."""
    people_seen: SeenPeopleTracker
    """Records which users used which account."""
    metrics: Metrics
    usage: UsageRecorder | None = None
    """Records the usage of accounts; None if that is disabled."""
    refused_origins: RefusedOrigins | None = None
    """Counts the web pages that widget keys refused; None if usage is disabled."""
    revocation_history: BackgroundService | None = None
    """Records how long revocations take."""
    response_history: ResponseHistory | None = None
    """Counts refused and failed requests; None in processes that serve none."""
    internal_access: InternalAccess = field(default_factory=InternalAccess)
    """Authorizes requests for metrics and for the status of the installation."""

    auth_service: AuthServiceChannel | None = None
    """None if credentials are verified in-process."""
    issuer_keys: JwksClient | None = None
    """The OIDC issuer's keys, with which JWTs are verified in-process; None with an auth-service."""

    confirmations: Confirmations | None = None
    """Limits how long JWTs are accepted without the issuer's confirmation; None if that is not configured."""

    traces: TraceExport | None = None
    """Records and exports spans; None if traces are off."""
    security_contact: SecurityContact | None = None
    """None if no contact is configured."""

    scopes: KnownScopes = field(default_factory=KnownScopes)
    """The scopes that API keys can have."""

    closers: list[Callable[[], None]] = field(default_factory=list)
    """Close what an app opened for itself, such as the Hub's connections. Called at shutdown."""

    before_fork: list[Callable[[], None]] = field(default_factory=list)
    """Create what requests need and the apps create on first use. Run by `prepare`."""

    background: tuple[BackgroundService, ...] = field(init=False, repr=False)
    """In start order. `stop()` runs in reverse order, so that no entry outlives what it depends on."""

    @property
    def usage_policy(self) -> UsagePolicy:
        """What is kept of the usage of accounts, and for how long."""
        return UsagePolicy() if self.usage is None else self.usage.policy

    def __post_init__(self) -> None:
        publisher = MetricsPublisher(
            self.metrics,
            revocation=self.revocation,
            histories=self.histories,
            registry=self.registry,
            limiter=self.limiter,
            fallback_stats=self.fallback_stats,
            issuer_keys=self.issuer_keys,
        )
        background = (
            # Stops last, so that the last spans of the other services are exported.
            *([] if self.traces is None else [self.traces.background]),
            # Stops last: the engine registry and the usage tracker read accounts from the system database.
            BackgroundService("system database", None, self.directory.database.close),
            # Stops after every service that opens tenant sessions, such as the usage tracker.
            BackgroundService("engine registry", self.registry.start, self.registry.close),
            # Publishes once more when it stops, so it stops after the services whose counters it copies. It reads the
            # registry's counters, so it stops before the registry.
            BackgroundService("metrics publisher", publisher.start, publisher.stop),
            # Connections of the Hub; requests have ended by now, and no service below uses them.
            BackgroundService("app connections", None, self._close_app_connections),
            # Redis connections of visitor sessions, used by requests only.
            BackgroundService("widget store", None, self.widget.store.close),
            # Releases the lease, so that no revocation waits for this worker. The worker acknowledges revocations until
            # then, and an acknowledgement may wait for the usage tracker: the tracker stops first.
            BackgroundService("revocation", self.revocation.start, self.revocation.stop),
            # Uses the databases and revokes, so it stops before both.
            self.journal_replay,
            # Releases the in-flight slots of this worker.
            BackgroundService("limiter", self.limiter.start, self.limiter.stop),
            # Stops first: it writes the pending uses of keys, which needs the databases.
            BackgroundService("usage tracker", self.last_used.start, self.last_used.stop),
            BackgroundService("user tracker", self.people_seen.start, self.people_seen.stop),
            *([] if self.revocation_history is None else [self.revocation_history]),
            *(
                []
                if self.response_history is None
                else [BackgroundService("response history", self.response_history.start, self.response_history.stop)]
            ),
            *(
                []
                if self.refused_origins is None
                else [BackgroundService("refused origins", self.refused_origins.start, self.refused_origins.stop)]
            ),
            *([] if self.usage is None else [BackgroundService("usage", self.usage.start, self.usage.stop)]),
        )
        object.__setattr__(self, "background", background)

    def attach(self, app: Flask) -> None:
        app.extensions[EXTENSION] = self

    def prepare(self) -> None:
        """Create what the apps otherwise create on first use, so that no request waits for it and workers share its
        memory. Call it once before the fork. It opens no connections and starts no threads."""
        for create in self.before_fork:
            create()

    def start(self) -> None:
        """Start the background services of this process. Call it after the fork."""
        for service in self.background:
            if service.start is not None:
                service.start()

    def stop(self) -> None:
        """Stop the background services, in reverse order: pending uses are written, the lease and the slots are
        released, and connections are closed."""
        for service in reversed(self.background):
            service.stop()

    def _close_app_connections(self) -> None:
        for close in self.closers:
            close()


def services() -> Services:
    """The services of the app that handles the current request."""
    found: Services = current_app.extensions[EXTENSION]
    return found
