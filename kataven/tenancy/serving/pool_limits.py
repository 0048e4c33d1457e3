"""How much one worker process may hold of its databases, and how long anything may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one registry. Times are in seconds.

    `connections` is this process's share; a `HostSlots` beside it caps all processes of the host together.
    `wait` bounds the queue for a connection or an engine; `hold` is the longest that a session may keep a connection
    before it is cut, which frees the thread even if the server has gone silent; after `idle`, unused connections and
    engines are given up. A breaker opens after `breaker_failures` in a row and lets one request try after its pause,
    which doubles up to the longest. `sweep` is how often all this is looked after: well within `wait`, since it is also
    how soon a process gives idle connections up to another one of the host.
    """

    engines: int = 300
    connections: int = 20
    connections_per_account: int = 2
    wait: float = 1.0
    hold: float = 8.0
    idle: float = 60.0
    sweep: float = 0.5
    breaker_failures: int = 3
    breaker_pause: float = 1.0
    breaker_longest_pause: float = 8.0
