"""The blueprint that the pages of this package register on."""

from __future__ import annotations

from typing import Final

from kataven.hub.page_blueprint import PageBlueprint

HOME: Final = "/settings/api-keys"
KEY: Final = f"{HOME}/<key_id>"

blueprint = PageBlueprint("api-keys", __name__, "API key")
