"""The Flask extension. Per request, before any other hook of the application:

    open context → join the fleet (once per process) → admit → limit → `g.principal`

Creating it opens no connections and starts no threads, so the app can be created before a fork.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

from flask import Flask, current_app, g, request
from werkzeug.routing import Rule

from kataven import settings as environment
from kataven.operations import account_migrations
from kataven.process_services import build_services
from kataven.settings import Settings
from kataven.tenancy.migrations.app_tables import AppTables, UpgradedAccount
from kataven.tenancy.serving.session import TenantSession
from kataven.web import observe, pipeline, problems
from kataven.web.declarations import UndeclaredRoutes, declared_access, public, requires, undeclared
from kataven.web.membership import Membership
from kataven.web.request_context import RequestContext, current_context
from kataven.web.services import Services

EXTENSION = "kataven.flask"
INSTANCE = "kataven.flask.extension"

STATIC_HINT = (
    "Flask adds the route of static files itself: pass static_folder=None, or call public(app.view_functions['static'])"
)

_log = logging.getLogger(__name__)


class Kataven:
    """Verifies the credentials of every request of a Flask application, and applies the limits of its caller.

    The application needs the settings of the API (`KATAVEN_…`, see docs/configuration.md); `settings` replaces the
    environment. In `strict` mode, a route without `@requires` or `@public` rejects every request. Otherwise, it is
    public, for an application that adds its declarations step by step.

    Create it before other extensions that register hooks, so that no hook runs for a request that is rejected.
    """

    requires = staticmethod(requires)
    public = staticmethod(public)

    def __init__(self, app: Flask | None = None, *, settings: Settings | None = None, strict: bool = True) -> None:
        self._settings = settings
        self._strict = strict
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Install the pipeline. Raises settings.SettingsError with all problems of the environment."""
        if EXTENSION in app.extensions:
            raise RuntimeError(f"Kataven is already installed in the application {app.name!r}")
        settings = self._settings or environment.load(environment.development_environ(os.environ))
        services = build_services(settings, "api")
        services.attach(app)
        app.extensions[EXTENSION] = Membership(services)
        app.extensions[INSTANCE] = self
        app.extensions[problems.EXPLAINED_AT_EXTENSION] = settings.public_url
        problems.install_own(app)
        problems.install_missing_tables(app)
        # First, even if the application has registered hooks before: a hook that returns a response ends the request.
        app.before_request_funcs.setdefault(None, [])[:0] = [pipeline.open_context, self._admit]
        # Last, so that the log line has the final status. Flask runs these in reverse order of registration.
        app.after_request_funcs.setdefault(None, []).insert(0, pipeline.finish)
        app.teardown_request(observe.close_context)
        app.teardown_request(pipeline.release)

    def start(self, app: Flask | None = None) -> None:
        """Join the fleet now instead of at the first request. Call it after the fork, such as in `post_worker_init`.

        Raises UndeclaredRoutes in strict mode, and StartedBeforeFork.
        """
        app = app or current_app._get_current_object()  # type: ignore[attr-defined]
        self.check(app)
        membership_of(app).join()

    def stop(self, app: Flask | None = None) -> None:
        """Leave the fleet now instead of when the interpreter exits."""
        membership_of(app or current_app._get_current_object()).leave()  # type: ignore[attr-defined]

    def check(self, app: Flask) -> None:
        """Raise UndeclaredRoutes if a route declares no access, in strict mode. For a test of the application."""
        membership_of(app)
        routes = list(undeclared_routes(app)) if self._strict else []
        if routes:
            raise UndeclaredRoutes(routes, STATIC_HINT if any("(static)" in route for route in routes) else "")

    def upgrade(self, app: Flask, tables: AppTables) -> Iterator[UpgradedAccount]:
        """Create or upgrade the application's tables in the database of every account. For a command: run it at each
        deployment, and after an account was created."""
        return tables.upgrade_all(account_migrations.tenants(membership_of(app).services.directory.database))

    def services(self, app: Flask) -> Services:
        """The collaborators of this process, such as `revocation` and `metrics`."""
        return membership_of(app).services

    def _admit(self) -> None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        g.principal = None
        if membership_of(app).join():
            self._report(app)
        rule = request.url_rule
        if rule is None or request.routing_exception is not None or _is_automatic_options(rule):
            return  # 404, 405 and redirects require no credential
        access = declared_access(app.view_functions.get(rule.endpoint), request.method)
        if access is None:
            if self._strict:
                raise undeclared(f"{request.method} {rule.rule}")
            return
        pipeline.admit_as(access)
        pipeline.limit()
        admitted = current_context().admitted
        g.principal = None if admitted is None else admitted.principal

    def _report(self, app: Flask) -> None:
        try:
            self.check(app)
        except UndeclaredRoutes as error:  # these routes reject every request; the others can be served
            _log.error("%s", error)


def context() -> RequestContext:
    """The context of the current request: `principal`, `account`, `actor`, `reading()` and `writing()`."""
    return current_context()


def reading() -> AbstractContextManager[TenantSession]:
    """A read-only session on the database of the caller's account. Raises RuntimeError in a public route."""
    return current_context().reading()


def writing() -> AbstractContextManager[TenantSession]:
    """A session in one transaction on the database of the caller's account, committed at the end of the block."""
    return current_context().writing()


def membership_of(app: Flask) -> Membership:
    """Raises RuntimeError if `app` has no extension."""
    found: Membership | None = app.extensions.get(EXTENSION)
    if found is None:
        raise RuntimeError(f"the application {app.name!r} has no Kataven extension; call Kataven(app) or init_app(app)")
    return found


def undeclared_routes(app: Flask) -> Iterator[str]:
    """The routes of `app` without a declaration, such as `GET /notes (list_notes)`."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        for method in sorted(rule.methods or ()):
            implied = method == "HEAD" or (method == "OPTIONS" and getattr(rule, "provide_automatic_options", False))
            if not implied and declared_access(view, method) is None:
                yield f"{method} {rule.rule} ({rule.endpoint})"


def _is_automatic_options(rule: Rule) -> bool:
    """Whether Flask responds to this request itself. A view that handles OPTIONS must declare its access."""
    return request.method == "OPTIONS" and bool(getattr(rule, "provide_automatic_options", False))
