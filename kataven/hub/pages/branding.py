"""Widget: its appearance on the account's web pages, with the real widget as a preview.

The preview runs in a sandboxed frame: see `widget_preview`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import branding, widget_keys
from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.hub.contrast import contrast_of
from kataven.hub.edits import SEEN, FieldLabel, read_edit, seen_of
from kataven.hub.page_blueprint import (
    MANAGERS,
    MEMBERS,
    HubRequest,
    PageBlueprint,
    read_form,
    render,
    see_other,
)
from kataven.hub.pages.agents import choices_of
from kataven.hub.pages.widget_keys import entry_of
from kataven.hub.session_middleware import POLICY, save_session
from kataven.hub.widget_preview import preview
from kataven.usage import refused_origins
from kataven.usage.refused_origins import RefusedOrigin
from kataven.web.inputs.branding import BrandingPatch

blueprint = PageBlueprint("branding", __name__)

OPTIONAL = ("title", "launcher_label", "logo_url")
POSITIONS, THEMES = choices_of(WidgetPosition), choices_of(WidgetTheme)
FIELD_LABELS = {
    "title": FieldLabel("Title"),
    "launcher_label": FieldLabel("Button label"),
    "accent_color": FieldLabel("Colour"),
    "logo_url": FieldLabel("Logo URL"),
    "position": FieldLabel("Position", POSITIONS),
    "theme": FieldLabel("Theme", THEMES),
}
"""The labels of the page's fields."""


@blueprint.page("/widget", MEMBERS)
def show_branding(hub_request: HubRequest) -> AnyResponse:
    with hub_request.reading() as session:
        values = asdict(branding.read(session))
    return _page(hub_request, values | {SEEN: seen_of(values)}, {})


@blueprint.page("/widget/preview", MEMBERS)
def show_preview(_: HubRequest) -> AnyResponse:
    """The document of the frame."""
    document, policy = preview()
    return Response(document, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _page(hub_request, submitted, {})


@blueprint.form("/widget", MANAGERS, _refill)
def change_branding(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(BrandingPatch, **{name: request.form.get(name, "").strip() or None for name in OPTIONAL})
    if form is None:
        return _page(hub_request, request.form, problems)
    edit = read_edit(form.given(), FIELD_LABELS)
    with hub_request.writing() as session:
        branding.change(session, form.given(), hub_request.actor, lambda found: edit.check(asdict(found)))
    save_session(
        hub_request, hub_request.session.with_(notice="Saved. Web pages show the changes the next time they load.")
    )
    return see_other("/widget")


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """An origin that a widget key refused."""

    origin: str
    """Empty for the origins that are not kept apart."""
    key_name: str | None
    """None if the key was removed."""
    key_path: str
    calls: int
    last_at: datetime
    allow_path: str | None
    """The form of the key with the origin added; None if no entry can allow it."""


def _refusals(hub_request: HubRequest) -> Sequence[RefusalRow] | None:
    """The refused origins of the last 24 hours; None if they are not counted."""
    if hub_request.services.refused_origins is None:
        return None
    with hub_request.reading() as session:
        if not refused_origins.is_available(session):
            return None
        found = refused_origins.last_day(session)
        names = widget_keys.names(session, {refusal.key_id for refusal in found})
    return [_refusal_row(refusal, names.get(refusal.key_id)) for refusal in found]


def _refusal_row(refusal: RefusedOrigin, name: str | None) -> RefusalRow:
    path = f"/settings/widget-keys/{refusal.key_id}"
    can_allow = name is not None and entry_of(refusal.origin) is not None
    allow_path = f"{path}?{urlencode({'allow': refusal.origin})}#domain_allowlist" if can_allow else None
    return RefusalRow(refusal.origin, name, path, refusal.calls, refusal.last_at, allow_path)


def _page(hub_request: HubRequest, values: Mapping[str, Any], problems: Mapping[str, str]) -> AnyResponse:
    status = HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK
    page = render(
        "branding.html",
        status,
        values=values,
        problems=problems,
        positions=POSITIONS,
        themes=THEMES,
        contrast=contrast_of(values.get("accent_color")),
        refusals=_refusals(hub_request),
    )
    page.headers["Content-Security-Policy"] = f"{POLICY}; frame-src 'self'"
    return page
