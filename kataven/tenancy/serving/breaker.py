"""A circuit breaker for one database, so that not every request waits for a database that is unavailable."""


class Breaker:
    """Opens after `failures` in a row. After each pause one trial request is admitted and the others are rejected.

    Not thread-safe: the registry calls it with its lock held. Times and pauses are in seconds.
    """

    __slots__ = (
        "_failures",
        "_longest_pause",
        "_pause",
        "_shortest_pause",
        "_threshold",
        "_trial_running",
        "_until",
    )

    def __init__(self, failures: int, shortest_pause: float, longest_pause: float) -> None:
        self._threshold = failures
        self._shortest_pause = self._pause = shortest_pause
        self._longest_pause = longest_pause
        self._failures = 0
        self._until = 0.0
        self._trial_running = False

    @property
    def is_open(self) -> bool:
        """Whether requests are rejected for now."""
        return self._failures >= self._threshold

    def admit(self, now: float) -> float:
        """0 to admit a request, else the seconds after which to retry."""
        if not self.is_open:
            return 0.0
        if self._trial_running or now < self._until:
            return max(self._until - now, self._shortest_pause)
        self._trial_running = True
        return 0.0

    def succeeded(self) -> None:
        """The database responded: close the breaker."""
        self._failures = 0
        self._pause = self._shortest_pause
        self._trial_running = False

    def failed(self, now: float) -> None:
        """The database could not be reached, or the connection was lost."""
        if self.is_open:
            self._pause = min(self._pause * 2, self._longest_pause)
        self._failures += 1
        self._until = now + self._pause
        self._trial_running = False

    def unsettled(self) -> None:
        """The request ended without contacting the database: the next request may be the trial."""
        self._trial_running = False
