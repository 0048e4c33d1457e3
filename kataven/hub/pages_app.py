"""Creates the Flask application of the Hub's pages, and the functions for its templates."""

from __future__ import annotations

import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, g, request, url_for
from markupsafe import Markup

from kataven.hub import (
    backchannel_logout,
    edits,
    errors,
    formatting,
    late_forms,
    session_middleware,
    sign_in,
    sign_in_audit,
    theme,
)
from kataven.hub.console import account, accounts, audit_log, health, keys, migrations, new_account, wall
from kataven.hub.console import people as console_people
from kataven.hub.console import search as console_search
from kataven.hub.csrf_mask import mask
from kataven.hub.page_blueprint import current_hub_request, is_path, page_of, page_paths
from kataven.hub.pages import (
    agents,
    api_keys,
    audit,
    branding,
    home,
    people,
    receipts,
    requests,
    search,
    sessions,
    try_it,
    widget_keys,
)
from kataven.hub.session_middleware import HubServices
from kataven.web import hardening
from kataven.web.compression import compress
from kataven.web.schema import MAX_BODY_BYTES
from kataven.web.services import Services

BLUEPRINTS = (
    late_forms.blueprint,
    sign_in.blueprint,
    backchannel_logout.blueprint,
    theme.blueprint,
    home.blueprint,
    agents.blueprint,
    api_keys.blueprint,
    widget_keys.blueprint,
    branding.blueprint,
    people.blueprint,
    sessions.blueprint,
    audit.blueprint,
    requests.blueprint,
    search.blueprint,
    receipts.blueprint,
    try_it.blueprint,
    accounts.blueprint,
    new_account.blueprint,
    account.blueprint,
    keys.blueprint,
    console_people.blueprint,
    migrations.blueprint,
    health.blueprint,
    wall.blueprint,
    audit_log.blueprint,
    console_search.blueprint,
)
PAGES = "kataven.pages"
"""The key in the Hub's `extensions` for the application of its pages."""
_SAFE_IN_DATA = " =:/,.-'()"
STATIC = Path(__file__).parent / "static"
_MASKED = "kataven_masked_csrf"


def create(services: Services, hub_services: HubServices) -> Flask:
    """Create the pages with the services that every app has, and the services of the Hub."""
    app = Flask("kataven-pages", root_path=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # otherwise a redirect would use the request's `Host` header unchecked
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    services.attach(app)
    errors.install(app)
    hardening.install(app, hub_services.url)
    edits.install(app)
    session_middleware.install(app, hub_services, late_forms.restore_form)
    late_forms.install(app)
    formatting.install(app)
    sign_in_audit.install(services.metrics)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.after_request(_compress)
    app.context_processor(_for_templates)
    app.jinja_env.globals["report_error"] = _report_error  # macros have no access to the template context
    app.jinja_env.globals["icon"] = _icon
    return app


def load(app: Flask) -> None:
    """Compile the templates, and read the static files that pages refer to. Otherwise each worker does so for its first
    pages, in memory that it shares with no other worker."""
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)
    _digests()
    _favicon()


def _compress(response: Response) -> Response:
    """Compress pages and static files. Pages with a new secret are responses to POST, which are not compressed."""
    if request.endpoint == "static":
        response.headers["Cache-Control"] = _cache_control(response)
    if request.endpoint == "static" and response.status_code == HTTPStatus.OK:
        response.direct_passthrough = False
        response.get_data()  # into memory: the files are small
    return compress(response)


def _cache_control(response: Response) -> str:
    """A static file is kept for a year if the digest in its URL is that of its content.

    During a rollout, a worker can be asked for a file of another release: that response must not be kept.
    """
    found = response.status_code in {HTTPStatus.OK, HTTPStatus.NOT_MODIFIED}
    digest = _digests().get((request.view_args or {})["filename"])  # None for `./hub.css`, another path of the file
    is_named = found and digest is not None and request.args.get("v") == digest
    return "public, max-age=31536000, immutable" if is_named else "no-cache"


def _for_templates() -> dict[str, Any]:
    return {
        "hub_request": current_hub_request(),
        "notice": _notice,
        "csrf": _csrf,
        "nav": _nav,
        "asset": _asset,
        "favicon": _favicon(),
        "theme": theme.chosen_theme(),
        "here": _here(),
        "page_session": _session_mark(),
    }


def _notice() -> str | None:
    """The message at the top of the page. A notice of the session is shown once."""
    hub_request = current_hub_request()
    if hub_request.page_notice is not None:
        return hub_request.page_notice
    notice = hub_request.session.notice
    if notice is not None:
        session_middleware.save_session(hub_request, hub_request.session.with_(notice=None))
        return formatting.notice_with_link(notice)
    return None


def _csrf() -> Markup:
    session = current_hub_request().session
    field = Markup('<input type="hidden" name="{}" value="{}">')
    # Masked once per response. The mask must differ between responses; more masks in one page only make it longer.
    plain, masked = g.get(_MASKED, (None, ""))
    if plain != session.csrf:
        masked = mask(session.csrf)
        setattr(g, _MASKED, (session.csrf, masked))
    token = field.format(session_middleware.CSRF_FIELD, masked)
    if session.account is None:
        return token
    return token + field.format(late_forms.IN_ACCOUNT, session.account)


def _report_error(field_id: str | None, message: str | None) -> str:
    """Add a message to the error summary above the page. `field_id` is None if it concerns no single field."""
    if message:
        current_hub_request().field_errors.append((field_id, message))
    return ""


def _nav(path: str, label: str, icon: str | None = None, below: str | None = None) -> Markup:
    """A navigation entry, or nothing if the app has no page at `path`.

    It is the current one on its own page and on pages below it, or below `below`.
    """
    if path not in page_paths():
        return Markup()
    beneath = below or path
    here = request.path in {path, beneath} or (path != "/" and request.path.startswith(f"{beneath}/"))
    current = Markup(' aria-current="page"') if here else ""
    return Markup('<li><a href="{}"{}>{}{}</a></li>').format(path, current, _icon(icon) if icon else "", label)


def _icon(name: str) -> Markup:
    """An icon of `icons.svg`. It has no text: the element around it needs one."""
    return Markup('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>').format(_asset("icons.svg"), name)


def _session_mark() -> str | None:
    """A name of this session for the page's script, which hides pages of sessions that ended. It is no secret."""
    session = current_hub_request().session
    return None if session.user is None else session.id[:16]


def _here() -> str:
    """The path of this page, or of the page that contains its form."""
    path = request.full_path.removesuffix("?") if request.method in session_middleware.SAFE_METHODS else None
    return path if path is not None and is_path(path) else page_of(request.path)


def _asset(name: str) -> str:
    """The URL of a static file with a digest of its content, so that browsers can cache it forever."""
    return url_for("static", filename=name, v=_digests()[name])


@cache
def _digests() -> dict[str, str]:
    """The digest of each static file, by name. Clients choose names, so they must not be the keys of a cache."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in STATIC.iterdir()}


@cache
def _favicon() -> str:
    """The icon of the browser's tab, as a data URL: no page needs another request for it."""
    return f"data:image/svg+xml,{quote((STATIC / 'icon.svg').read_text('utf-8').strip(), safe=_SAFE_IN_DATA)}"
