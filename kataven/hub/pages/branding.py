"""Widget: how it looks on the account's pages, with a preview."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import branding
from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.hub.edits import SEEN, Words, read_edit, seen_of
from kataven.hub.page_blueprint import MANAGERS, MEMBERS, HubRequest, PageBlueprint, go, read_form, show
from kataven.hub.pages.agents import choices_of
from kataven.hub.session_middleware import keep
from kataven.web.inputs.branding import BrandingPatch

blueprint = PageBlueprint("branding", __name__)

OPTIONAL = ("title", "launcher_label", "logo_url")
POSITIONS, THEMES = choices_of(WidgetPosition), choices_of(WidgetTheme)
WORDS = {
    "title": Words("Title"),
    "launcher_label": Words("Beside the button"),
    "accent_color": Words("Colour"),
    "logo_url": Words("Logo"),
    "position": Words("Where", POSITIONS),
    "theme": Words("Light or dark", THEMES),
}
"""As the page calls its fields."""


@blueprint.page("/widget", MEMBERS)
def show_branding(hub_request: HubRequest) -> AnyResponse:
    with hub_request.reading() as session:
        values = asdict(branding.read(session))
    return _page(values | {SEEN: seen_of(values)}, {})


def _again(_: HubRequest, typed: Mapping[str, str]) -> AnyResponse:
    return _page(typed, {})


@blueprint.form("/widget", MANAGERS, _again)
def change_branding(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(BrandingPatch, **{name: request.form.get(name, "").strip() or None for name in OPTIONAL})
    if form is None:
        return _page(request.form, problems)
    edit = read_edit(form.given(), WORDS)
    with hub_request.writing() as session:
        branding.change(session, form.given(), hub_request.actor, lambda found: edit.check(asdict(found)))
    keep(hub_request, hub_request.session.with_(notice="Saved. Pages that are loaded from now on look like this."))
    return go("/widget")


def _page(values: Mapping[str, Any], problems: Mapping[str, str]) -> AnyResponse:
    status = HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK
    return show(
        "branding.html",
        status,
        values=values,
        problems=problems,
        positions=POSITIONS,
        themes=THEMES,
    )
