"""`/v1/widget-settings`: how the widget looks on the account's pages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

from flask import Response
from pydantic import AfterValidator, Field, StringConstraints

from kataven.account import branding
from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.web.access import READ, WRITE
from kataven.web.call import Call
from kataven.web.operation import Answer, Room
from kataven.web.schema import Input, Line, View, no_default, write_json

room = Room("widget-settings", __name__, "setting", "Branding: how the widget looks on your pages.")

_HTTPS_URL = r"^https://[!-~]+$"


def _with_a_host(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise ValueError("must be an https URL like https://acme.com/logo.svg")
    return url


Title = Annotated[str, Line(60)]
Label = Annotated[str, Line(40)]
Color = Annotated[
    str,
    StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$"),
    AfterValidator(str.lower),
    Field(description="Six hexadecimal digits, such as #1746a2. Text on it is black or white, whichever reads better."),
]
LogoUrl = Annotated[
    str,
    StringConstraints(max_length=500, pattern=_HTTPS_URL),
    AfterValidator(_with_a_host),
    Field(description="An https URL. Pages with a Content-Security-Policy have to allow it as an image."),
]


class BrandingPatch(Input):
    """What to change of how the widget looks."""

    title: Title | None = Field(
        default=None, json_schema_extra=no_default, description="Above the conversation; null: the agent's name."
    )
    launcher_label: Label | None = Field(
        default=None, json_schema_extra=no_default, description="Beside the launcher's icon; null: the icon alone."
    )
    accent_color: Color = Field(default="", json_schema_extra=no_default)
    logo_url: LogoUrl | None = Field(default=None, json_schema_extra=no_default)
    position: WidgetPosition = Field(default=WidgetPosition.BOTTOM_RIGHT, json_schema_extra=no_default)
    theme: WidgetTheme = Field(
        default=WidgetTheme.AUTO, json_schema_extra=no_default, description="`auto` follows the visitor's own choice."
    )


class BrandingView(View):
    """How the widget looks."""

    title: str | None
    launcher_label: str | None
    accent_color: str
    logo_url: str | None
    position: WidgetPosition
    theme: WidgetTheme


@room.operation(
    "GET",
    "/v1/widget-settings",
    access=READ,
    summary="Read the widget's branding",
    answer=Answer(200, "The branding.", BrandingView),
)
def read_widget_settings(call: Call) -> Response:
    """The defaults, as long as nobody has changed anything."""
    with call.reading() as session:
        return write_json(shape(branding.read(session)))


@room.operation(
    "PATCH",
    "/v1/widget-settings",
    access=WRITE,
    summary="Change the widget's branding",
    answer=Answer(200, "The branding as it is now.", BrandingView),
    body=BrandingPatch,
)
def change_widget_settings(call: Call, body: BrandingPatch) -> Response:
    """Pages that are loaded from then on look like this."""
    with call.writing() as session:
        changed = branding.change(session, body.given(), call.actor)
    return write_json(shape(changed))


def shape(found: branding.Branding) -> dict[str, Any]:
    """The branding as clients see it."""
    return asdict(found)
