"""Which requests an overloaded worker processes first: health checks, and what ends access."""

from __future__ import annotations

from kataven.web.paths import HUB_PREFIX, PROBES
from kataven.web.server.request_threads import Lane

ENDS_ACCESS = (
    ("DELETE", "/v1/api-keys/"),
    ("PATCH", "/v1/api-keys/"),
    ("POST", "/v1/api-keys/bulk"),
    ("DELETE", "/v1/widget-keys/"),
    ("PATCH", "/v1/widget-keys/"),
    ("POST", "/v1/people/"),
    ("PUT", "/v1/people/"),
    ("POST", "/v1/security-events"),
)
"""Methods, and paths or what paths start with. A PATCH of a key may pause it."""
ENDS_ACCESS_IN_THE_HUB = (
    ("POST", "/auth/backchannel-logout"),
    ("POST", "/settings/api-keys/"),
    ("POST", "/settings/widget-keys/"),
    ("POST", "/people/"),
    ("POST", "/sessions/"),
    ("POST", "/console/accounts/"),
    ("POST", "/console/people/"),
)
"""All forms of the pages on which access ends: what the path of a form means is not decided here."""


def lanes() -> dict[Lane, tuple[bytes, ...]]:
    """What the first bytes of these requests are, as the server needs them."""
    probes = [f"{method} {path}" for method in ("GET", "HEAD") for path in sorted(PROBES)]
    aliases = ("", "/api", f"{HUB_PREFIX}/api")
    ends = [f"{method} {alias}{path}" for method, path in ENDS_ACCESS for alias in aliases]
    ends += [f"{method} {path}" for method, path in ENDS_ACCESS_IN_THE_HUB]
    return {
        Lane.PROBE: tuple(start.encode() for start in probes),
        Lane.URGENT: tuple(start.encode() for start in ends),
    }
