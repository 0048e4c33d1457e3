"""The inputs of the widget's branding, for the API and the Hub."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from kataven.account.models import WidgetPosition, WidgetTheme
from kataven.validation import Shaped
from kataven.web.schema import Input, SingleLine, no_default

_HTTPS_URL = r"^https://[!-~]+$"
_INVALID_URL = "must be an https URL without spaces, like https://acme.com/logo.svg"


def _require_host(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise ValueError(_INVALID_URL)
    return url


Title = Annotated[str, SingleLine(60)]
Label = Annotated[str, SingleLine(40)]
Color = Annotated[
    str,
    Shaped(r"^#[0-9a-fA-F]{6}$", "must be a color like #1746a2: # and six hexadecimal digits"),
    AfterValidator(str.lower),
    Field(
        description="A color such as #1746a2: # and six hexadecimal digits. Text on it is black or white, "
        "depending on the contrast."
    ),
]
LogoUrl = Annotated[
    str,
    Shaped(_HTTPS_URL, _INVALID_URL, 500),
    AfterValidator(_require_host),
]


class BrandingPatch(Input):
    """The branding of the widget to update. Omitted fields keep their values."""

    title: Title | None = Field(
        default=None,
        json_schema_extra=no_default,
        description="Title above the conversation. Null shows the agent's name.",
    )
    launcher_label: Label | None = Field(
        default=None,
        json_schema_extra=no_default,
        description="Label next to the launcher's icon. Null shows only the icon.",
    )
    accent_color: Color = Field(default="", json_schema_extra=no_default)
    logo_url: LogoUrl | None = Field(
        default=None,
        json_schema_extra=no_default,
        description="An https URL. Pages with a Content-Security-Policy must allow it in `img-src`.",
    )
    position: WidgetPosition = Field(default=WidgetPosition.BOTTOM_RIGHT, json_schema_extra=no_default)
    theme: WidgetTheme = Field(
        default=WidgetTheme.AUTO,
        json_schema_extra=no_default,
        description="`auto` follows the visitor's system setting.",
    )
