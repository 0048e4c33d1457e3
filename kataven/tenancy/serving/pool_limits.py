"""Limits of one registry: engines, connections and times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of one registry. Times are in seconds.

    `connections` applies to this process; `HostSlots` caps all processes of the host together. `wait` limits the wait
    for a connection or an engine. If a session takes longer than `hold`, its connection is cut, which frees the thread
    even if the server does not respond. `hold` includes the wait and the time to connect, so it must be at least `wait`
    plus the statement timeout. Connections and engines that are unused for `idle` are closed. A breaker opens after
    `breaker_failures` in a row and admits one trial request after each pause; the pause doubles up to the longest.
    `sweep` is the interval of these checks. It must be well below `wait`, because it also determines how soon a process
    closes idle connections when another process on the host needs slots.
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
