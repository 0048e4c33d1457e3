"""Serves `/.well-known/security.txt`: where to report a vulnerability of this deployment (RFC 9116).

Without `KATAVEN_SECURITY_CONTACT` the path returns 404, because a file without a contact is not valid.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Response
from werkzeug.exceptions import NotFound

from kataven.web.access import PUBLIC
from kataven.web.operation import ApiBlueprint
from kataven.web.paths import SECURITY_TXT
from kataven.web.request_context import RequestContext
from kataven.web.services import SecurityContact

VALID_FOR = timedelta(days=180)
"""RFC 9116, section 2.5.5, recommends less than a year. The file is generated for each request, so it does not expire
while the deployment runs. A copy of it does."""

blueprint = ApiBlueprint("security-txt", __name__, "file", "Where to report a vulnerability.")


@blueprint.page(SECURITY_TXT, access=PUBLIC, summary="Security contact")
def show_security_txt(context: RequestContext) -> Response:
    """Returns the security contact of this deployment, as RFC 9116 describes."""
    contact = context.services.security_contact
    if contact is None:
        raise NotFound
    return Response(
        document(contact, lambda: datetime.now(UTC)),
        content_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "public, max-age=3600"},
    )


def document(contact: SecurityContact, now: Callable[[], datetime]) -> str:
    """The text of the file. `Expires` changes once a day."""
    expires = now().replace(hour=0, minute=0, second=0, microsecond=0) + VALID_FOR
    lines = [f"Contact: {contact.contact}", f"Expires: {expires:%Y-%m-%dT%H:%M:%SZ}", "Preferred-Languages: en"]
    lines += [f"Canonical: {url}{SECURITY_TXT}" for url in contact.urls]
    if contact.policy is not None:
        lines.append(f"Policy: {contact.policy}")
    return "".join(f"{line}\n" for line in lines)
