"""`/v1/widget-settings`: how the widget looks on the account's pages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response

from kataven.account import branding
from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.web.access import READ, WRITE
from kataven.web.conditional import require_match, write_tagged
from kataven.web.inputs.branding import BrandingPatch
from kataven.web.operation import Answer, ApiBlueprint
from kataven.web.request_context import RequestContext
from kataven.web.schema import View

blueprint = ApiBlueprint("widget-settings", __name__, "setting", "Branding: how the widget looks on your pages.")


class BrandingView(View):
    """How the widget looks."""

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
    summary="Read the widget's branding",
    answer=Answer(200, "The branding.", BrandingView),
    conditional=True,
)
def read_widget_settings(context: RequestContext) -> Response:
    """The defaults, as long as nobody has changed anything."""
    with context.reading() as session:
        return write_tagged(shape(branding.read(session)))


@blueprint.operation(
    "PATCH",
    "/v1/widget-settings",
    access=WRITE,
    summary="Change the widget's branding",
    answer=Answer(200, "The branding as it is now.", BrandingView),
    body=BrandingPatch,
    max_body_bytes=16 * 1024,
    conditional=True,
)
def change_widget_settings(context: RequestContext, body: BrandingPatch) -> Response:
    """Pages that are loaded from then on look like this."""
    with context.writing() as session:
        changed = branding.change(session, body.given(), context.actor, lambda found: require_match(shape(found)))
    return write_tagged(shape(changed))


def shape(found: branding.Branding) -> dict[str, Any]:
    """The branding as clients see it."""
    return asdict(found)
