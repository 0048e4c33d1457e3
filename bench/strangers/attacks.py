"""The attacks, one after the other: what each sends, and the floors that the product must keep meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.strangers.verdict import Floors

MIB = 1024 * 1024
BYTES_PER_SECOND = 5_000_000
SILENT = 200
"""Connections; the product has 16 threads."""


@dataclass(frozen=True)
class Attack:
    """What the process of an attack does."""

    name: str
    recipe: str
    connections: int
    per_second: float = 0.0
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the recipe takes; `{name}` is replaced by what the site has under that name."""
    floors: Floors = field(default_factory=Floors)
    half_close: bool = False
    """Whether each request is the last on its connection, and says so."""
    beside_good: bool = False
    """Whether it comes from the good client's own address."""


def _bodies(name: str, shape: str, size: int) -> Attack:
    return Attack(f"bodies-{name}", "bodies", 4, BYTES_PER_SECOND / size, {"shape": shape, "size": size})


def _silent(name: str, send: str, key: str | None = None) -> Attack:
    return Attack(name, "silent", SILENT, 0.0, {"send": send, "key": key}, Floors(probe_p50=3.0))


GUESSES = 400.0
"""Per second."""
_LOOKED_UP = Floors(lookups_per_request=0.5, limited=True)
_BESIDE = replace(_LOOKED_UP, miss_p50=math.inf)
"""A key that no worker knows waits for its turn behind guesses from its own address; it has to get in."""
_FILLING = Floors(held_mb_per_address=16.0)

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
    Attack("guesses-own", "guesses", 8, GUESSES, {"account": "acme"}, _LOOKED_UP),
    Attack("guesses-other", "guesses", 8, GUESSES, {"account": "globex"}, _LOOKED_UP),
    Attack("guesses-beside", "guesses", 8, GUESSES, {"account": "acme"}, _BESIDE, beside_good=True),
    Attack("jwt-invented", "accounts", 8, GUESSES, {"token": "{charlie}", "account": None}, _LOOKED_UP),
    Attack("jwt-foreign", "accounts", 8, GUESSES, {"token": "{charlie}", "account": "acme"}, _LOOKED_UP),
    Attack("sign-in", "sign-in", 4, 150.0, {"host": "{hub}"}, _FILLING),
    Attack(
        "guests",
        "guests",
        4,
        150.0,
        {"client_key": "{widget_key}", "agent_id": "{agent}", "origin": "{origin}"},
        _FILLING,
    ),
    Attack(
        "chunks",
        "chunks",
        4,
        100.0,
        floors=Floors(log_lines_per_request=2.1, log_bytes_per_request=1024.0),
        half_close=True,
    ),
)
