"""The blueprint that the pages of this package register on."""

from __future__ import annotations

from typing import Final

from kataven.hub.page_blueprint import PageBlueprint

HOME: Final = "/requests"

blueprint = PageBlueprint("requests", __name__, "request")
