"""Rate limits on the request path. Requests over a limit raise Flask-Limiter's exception.

`Limiter.admit` makes one decision per authenticated request, over every window of the account and the key, in one round
trip. If a limit is exceeded, it raises `LimitExceeded`, a subclass of `flask_limiter.RateLimitExceeded`, so that an
application needs one handler for 429.
"""

from kataven.ratelimit.limiter.admission import Admission, Limiter
from kataven.ratelimit.limiter.exceeded import LimitExceeded
from kataven.ratelimit.limiter.meter import Meter

__all__ = ["Admission", "LimitExceeded", "Limiter", "Meter"]
