"""What a registry tells about itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metrics:
    """One look at the registry of one process. Counts are since it was made, times in seconds."""

    engines: int
    engines_limit: int
    connections: int
    connections_in_use: int
    connections_limit: int
    waits: int
    waited_seconds: float
    builds: int
    build_seconds: float
    slowest_build_seconds: float
    evictions: int
    displaced_connections: int
    cut_connections: int
    open_breakers: tuple[str, ...]
