"""The theme of the pages: light, dark, or that of the system. Stored in a cookie of this browser.

The server renders the theme, so that a page never changes its colours after it is shown, and the switch works without
JavaScript. With JavaScript, `hub.js` sets the same cookie and changes the page without a request.
"""

from __future__ import annotations

from typing import Final

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.page_blueprint import SIGNED_IN, HubRequest, PageBlueprint, is_path, see_other
from kataven.hub.session_middleware import hub_services

blueprint = PageBlueprint("theme", __name__)

COOKIE: Final = "kataven-theme"
THEMES: Final = frozenset({"light", "dark"})
_YEAR_SECONDS = 365 * 24 * 3600


def chosen_theme() -> str | None:
    """`light` or `dark`, or None for that of the system."""
    chosen = request.cookies.get(COOKIE)
    return chosen if chosen in THEMES else None


@blueprint.form("/theme", SIGNED_IN)
def choose_theme(hub_request: HubRequest) -> AnyResponse:
    next_path = request.form.get("next")
    response = see_other(next_path if next_path is not None and is_path(next_path) else "/")
    chosen = request.form.get("theme", "")
    if chosen in THEMES:
        # Not HttpOnly: `hub.js` changes it, and the value is no secret.
        response.set_cookie(
            COOKIE, chosen, max_age=_YEAR_SECONDS, path="/", secure=hub_services().secure, samesite="Lax"
        )
    else:
        response.delete_cookie(COOKIE, path="/", secure=hub_services().secure, samesite="Lax")
    return response
