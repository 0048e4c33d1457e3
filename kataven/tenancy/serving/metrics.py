"""The metrics of one registry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """A snapshot of one process's registry. Counters start when the registry is created; times are in seconds."""

    engines: int
    """Accounts that have an engine now."""
    engines_limit: int
    connections: int
    """Open connections, in use or idle, over all accounts."""
    connections_in_use: int
    connections_limit: int
    """The limit of this process."""
    host_connections_limit: int | None
    """The limit of all processes on the host; None without one."""
    waits: int
    """Counter: requests that had to queue for a connection."""
    waited_seconds: float
    """Counter: total time in the queue."""
    builds: int
    """Counter: engines built."""
    build_seconds: float
    """Counter: total time to build engines."""
    slowest_build_seconds: float
    evictions: int
    """Counter: engines evicted to free capacity for another account."""
    displaced_connections: int
    """Counter: idle connections closed to free capacity for another account."""
    cut_connections: int
    """Counter: connections cut because a session held them for too long."""
    open_breakers: tuple[str, ...]
    """Accounts whose circuit breaker is open. Export the number of names; don't use them as labels."""
