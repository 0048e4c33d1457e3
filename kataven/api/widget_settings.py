"""`/v1/widget-settings`: the branding of the account's widget."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response

from kataven.account import branding
from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.web.access import READ, WRITE
from kataven.web.conditional import require_match, write_tagged
from kataven.web.inputs.branding import BrandingPatch
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import View

blueprint = ApiBlueprint(
    "widget-settings", __name__, "setting", "Branding: the appearance of the widget on your pages."
)


class BrandingView(View):
    """The appearance of the widget."""

    title: str | None
    launcher_label: str | None
    accent_color: str
    logo_url: str | None
    position: WidgetPosition
    theme: WidgetTheme


@blueprint.operation(
    "GET",
    "/v1/widget-settings",
    access=READ,
    summary="Retrieve the widget's branding",
    response=ResponseSpec(200, "The branding.", BrandingView),
    conditional=True,
)
def read_widget_settings(context: RequestContext) -> Response:
    """Returns the defaults if the branding was never changed."""
    with context.reading() as session:
        return write_tagged(shape(branding.read(session)))


@blueprint.operation(
    "PATCH",
    "/v1/widget-settings",
    access=WRITE,
    summary="Update the widget's branding",
    response=ResponseSpec(200, "The updated branding.", BrandingView),
    body=BrandingPatch,
    max_body_bytes=16 * 1024,
    conditional=True,
)
def change_widget_settings(context: RequestContext, body: BrandingPatch) -> Response:
    """Applies to pages that are loaded afterwards."""
    with context.writing() as session:
        changed = branding.change(session, body.given(), context.actor, lambda found: require_match(shape(found)))
    return write_tagged(shape(changed))


def shape(found: branding.Branding) -> dict[str, Any]:
    """The JSON representation of the branding."""
    return asdict(found)
