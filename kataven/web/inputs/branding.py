"""What may be said of how the widget looks, at the API and in the Hub."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.validation import Shaped
from kataven.web.schema import Input, SingleLine, no_default

_HTTPS_URL = r"^https://[!-~]+$"
_NO_HTTPS_URL = "must be an https URL like https://acme.com/logo.svg, without blanks"


def _with_a_host(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise ValueError(_NO_HTTPS_URL)
    return url


Title = Annotated[str, SingleLine(60)]
Label = Annotated[str, SingleLine(40)]
Color = Annotated[
    str,
    Shaped(r"^#[0-9a-fA-F]{6}$", "must be a color like #1746a2: # and six hexadecimal digits"),
    AfterValidator(str.lower),
    Field(description="Six hexadecimal digits, such as #1746a2. Text on it is black or white, whichever reads better."),
]
LogoUrl = Annotated[
    str,
    Shaped(_HTTPS_URL, _NO_HTTPS_URL, 500),
    AfterValidator(_with_a_host),
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
    logo_url: LogoUrl | None = Field(
        default=None,
        json_schema_extra=no_default,
        description="An https URL. Pages with a Content-Security-Policy have to allow it as an image.",
    )
    position: WidgetPosition = Field(default=WidgetPosition.BOTTOM_RIGHT, json_schema_extra=no_default)
    theme: WidgetTheme = Field(
        default=WidgetTheme.AUTO, json_schema_extra=no_default, description="`auto` follows the visitor's own choice."
    )
