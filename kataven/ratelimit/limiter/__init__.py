"""Flask-Limiter as the face of our windows; nothing else imports it.

`Limiter.admit` is the one decision on the path of an authenticated request: over every window of the account and the
key, in one round trip. When one of them is used up it raises Flask-Limiter's own exception, so that there is one 429.

Elsewhere Flask-Limiter's decorators work as its users expect, over the same windows:

    from kataven.ratelimit import limiter

    @app.get("/ping")
    @limiter.limit("10/minute")
    def ping() -> str: ...
"""

from kataven.ratelimit.limiter.admission import Admission, Limiter
from kataven.ratelimit.limiter.decorators import decorators, install
from kataven.ratelimit.limiter.exceeded import LimitExceeded
from kataven.ratelimit.limiter.meter import Meter

limit = decorators.limit
shared_limit = decorators.shared_limit

__all__ = ["Admission", "LimitExceeded", "Limiter", "Meter", "install", "limit", "shared_limit"]
