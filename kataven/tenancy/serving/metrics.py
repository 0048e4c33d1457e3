"""What a registry tells about itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """One look at the registry of one process. Counters only grow, from when it was made; times are in seconds."""

    engines: int
    """Accounts whose engine is kept now."""
    engines_limit: int
    connections: int
    """Open now, in use or idle, over all accounts."""
    connections_in_use: int
    connections_limit: int
    """This process's own."""
    host_connections_limit: int | None
    """Over all processes of the host; None without such a limit."""
    waits: int
    """Counter: requests that had to queue for a connection."""
    waited_seconds: float
    """Counter: how long they queued, all together."""
    builds: int
    """Counter: engines built."""
    build_seconds: float
    """Counter: how long that took, all together."""
    slowest_build_seconds: float
    evictions: int
    """Counter: engines given up to make room for another account's."""
    displaced_connections: int
    """Counter: idle connections closed to make room for another account's."""
    cut_connections: int
    """Counter: connections cut under a session that had held one for too long."""
    open_breakers: tuple[str, ...]
    """Accounts whose database is given up on for the moment. Names: to be counted, not to be made labels of."""
