"""A circuit breaker per account: a database that is down is asked again now and then, not by every request."""


class Breaker:
    """Closed until `failures` in a row, then open; after each pause one request tries, the others are turned away.

    Not thread-safe by itself: the registry calls it with its lock held. Moments and pauses are in seconds.
    """

    __slots__ = ("_allowed", "_failures", "_most_pause", "_pause", "_shortest_pause", "_trying", "_until")

    def __init__(self, failures: int, shortest_pause: float, most_pause: float) -> None:
        self._allowed = failures
        self._shortest_pause = self._pause = shortest_pause
        self._most_pause = most_pause
        self._failures = 0
        self._until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the account is given up on for now."""
        return self._failures >= self._allowed

    def admit(self, now: float) -> float:
        """0 to let a request through, else the seconds after which to ask again."""
        if not self.is_open:
            return 0.0
        if self._trying or now < self._until:
            return max(self._until - now, self._shortest_pause)
        self._trying = True
        return 0.0

    def succeeded(self) -> None:
        """The database answered."""
        self._failures = 0
        self._pause = self._shortest_pause
        self._trying = False

    def failed(self, now: float) -> None:
        """The database could not be reached, or went away."""
        if self.is_open:
            self._pause = min(self._pause * 2, self._most_pause)
        self._failures += 1
        self._until = now + self._pause
        self._trying = False

    def unsettled(self) -> None:
        """The request ended without learning whether the database answers: the next one may try."""
        self._trying = False
