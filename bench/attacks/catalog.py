"""The attacks: the traffic of each, and the ceilings that the server must not exceed during it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.attacks.verdict import Ceilings

MIB = 1024 * 1024
BYTES_PER_SECOND = 5_000_000
SILENT = 200
"""Connections; the server has 16 threads."""


@dataclass(frozen=True)
class Attack:
    """The configuration of one attack."""

    name: str
    recipe: str
    connections: int
    per_second: float = 0.0
    given: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the recipe. `{name}` is replaced by the site's value of this name."""
    ceilings: Ceilings = field(default_factory=Ceilings)
    half_close: bool = False
    """Whether each request half-closes its connection."""
    from_client_address: bool = False
    """Whether it comes from the valid client's own address."""


def _bodies(name: str, shape: str, size: int) -> Attack:
    return Attack(f"bodies-{name}", "bodies", 4, BYTES_PER_SECOND / size, {"shape": shape, "size": size})


def _silent(name: str, send: str, key: str | None = None) -> Attack:
    return Attack(name, "silent", SILENT, 0.0, {"send": send, "key": key}, Ceilings(probe_p50=3.0))


GUESSES = 400.0
"""Per second."""
_LOOKUPS = Ceilings(lookups_per_request=0.5, limited=True)
_SAME_ADDRESS = replace(_LOOKUPS, miss_p50=math.inf)
"""A key that no worker has cached waits behind guesses from its own address, but must be served."""
_STORAGE = Ceilings(held_mb_per_address=16.0)

ATTACKS = (
    _bodies("1m", "unknown_names", MIB),
    _bodies("64k", "unknown_names", 64 * 1024),
    _bodies("8k", "unknown_names", 8 * 1024),
    _bodies("deep", "nested", MIB),
    _bodies("long", "long_string", MIB),
    _bodies("twice", "repeated_names", MIB),
    _silent("silent", "nothing"),
    _silent("half-heads", "half a head"),
    _silent("half-bodies", "half a body"),
    _silent("half-bodies-key", "half a body", "{key}"),
    Attack("guesses-own", "guesses", 8, GUESSES, {"account": "acme"}, _LOOKUPS),
    Attack("guesses-other", "guesses", 8, GUESSES, {"account": "globex"}, _LOOKUPS),
    Attack("guesses-beside", "guesses", 8, GUESSES, {"account": "acme"}, _SAME_ADDRESS, from_client_address=True),
    Attack("jwt-invented", "accounts", 8, GUESSES, {"token": "{charlie}", "account": None}, _LOOKUPS),
    Attack("jwt-foreign", "accounts", 8, GUESSES, {"token": "{charlie}", "account": "acme"}, _LOOKUPS),
    Attack("sign-in", "sign-in", 4, 150.0, {"host": "{hub}"}, _STORAGE),
    Attack(
        "guests",
        "guests",
        4,
        150.0,
        {"client_key": "{widget_key}", "agent_id": "{agent}", "origin": "{origin}"},
        _STORAGE,
    ),
    Attack(
        "chunks",
        "chunks",
        4,
        100.0,
        ceilings=Ceilings(log_lines_per_request=2.1, log_bytes_per_request=1024.0),
        half_close=True,
    ),
)
