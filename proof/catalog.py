"""The models, the bounds for which each is searched, and the rules that are taken out one at a time."""

from __future__ import annotations

from dataclasses import dataclass

SMALL_LEASE = ("OTHERS=0", "NO_SWEEPS")
SMALL_HOMES = ("LOSSES=0", "LATE_WRITES=0", "NO_SWEEPS")
SMALL_FALLBACK = ("OTHERS=0", "LATE_WRITES=0", "NO_SWEEPS")


@dataclass(frozen=True, slots=True)
class Model:
    """One exhaustive search. `defines` are the bounds as the model's macros; `bounds` says them in words."""

    file: str
    bounds: str
    defines: tuple[str, ...] = ()
    liveness: bool = False


@dataclass(frozen=True, slots=True)
class Mutant:
    """The model without one rule. The search must find a violation. `replayed`: also shown with the real classes."""

    rule: str
    file: str
    defines: tuple[str, ...] = ()
    liveness: bool = False
    replayed: bool = False

    @property
    def macro(self) -> str:
        return "NO_" + self.rule.upper().replace(" ", "_")


MODELS = (
    Model("lease", "1 request at a time, 1 other event, sweeping"),
    Model("lease", "1 request at a time, 2 other events, sweeping", ("OTHERS=2",)),
    Model("lease", "2 requests at a time, 1 other event", ("REQUESTS=2", "NO_SWEEPS")),
    Model("homes", "2 Redis servers, 1 late write", ("LOSSES=0", "NO_SWEEPS")),
    Model("homes", "2 Redis servers, 1 loss of data", ("LATE_WRITES=0", "NO_SWEEPS")),
    Model("homes", "2 Redis servers, sweeping", ("LOSSES=0", "LATE_WRITES=0")),
    Model("fallback", "1 other notice, 1 late write, sweeping"),
    Model("memories", "2 memories, 2 requests at a time"),
    Model("memories", "the same, and an auth-service that remembers accounts", ("SERVICE",)),
    Model("cutoffs", "2 requests at a time, in one account or in all"),
    Model("intents", "1 revoker that may die at each step, 1 retry", ("RETRY",)),
    Model("intents", "the same, under fairness: the key is forgotten", ("RETRY", "LIVENESS"), liveness=True),
    Model("revoke", "any outage, under fairness: a receipt or a 503", liveness=True),
)

MUTANTS = (
    Mutant("lease", "lease", SMALL_LEASE, replayed=True),
    Mutant("lease from before the request", "lease", SMALL_LEASE),
    Mutant("lease before lookup", "lease", SMALL_LEASE, replayed=True),
    Mutant("token", "lease", SMALL_LEASE, replayed=True),
    Mutant("token before read", "lease", SMALL_LEASE),
    Mutant("token spoiled first", "lease", SMALL_LEASE, replayed=True),
    Mutant("epoch in renewals", "lease", SMALL_LEASE, replayed=True),
    Mutant("epoch in events", "lease", ("NO_SWEEPS",)),
    Mutant("acknowledgement after forgetting", "lease", SMALL_LEASE, replayed=True),
    Mutant("commit before publication", "lease", SMALL_LEASE),
    Mutant("wait", "lease", SMALL_LEASE, replayed=True),
    Mutant("wait from the reply", "lease", SMALL_LEASE),
    Mutant("wait for every worker", "lease", SMALL_LEASE),
    Mutant("sweepers wait", "lease", ("OTHERS=0",)),
    Mutant("unchanged record", "lease", ("OTHERS=0",)),
    Mutant("identity", "homes", ("LATE_WRITES=0", "NO_SWEEPS")),
    Mutant("home", "homes", SMALL_HOMES, replayed=True),
    Mutant("homes read", "homes", SMALL_HOMES, replayed=True),
    Mutant("homes read after the commit", "homes", SMALL_HOMES),
    Mutant("home before forgetting", "homes", SMALL_HOMES, replayed=True),
    Mutant("home unknown while writing", "homes", SMALL_HOMES, replayed=True),
    Mutant("dropping at a new home", "homes", SMALL_HOMES),
    Mutant("forgetting when the lease expired", "homes", SMALL_HOMES, replayed=True),
    Mutant("heartbeats in order", "homes", ("LOSSES=0", "NO_SWEEPS")),
    Mutant("reading lease", "fallback", SMALL_FALLBACK),
    Mutant("lease from before the request", "fallback", SMALL_FALLBACK),
    Mutant("notice read", "fallback", SMALL_FALLBACK, replayed=True),
    Mutant("latest mark", "fallback", SMALL_FALLBACK),
    Mutant("forgetting before it says so", "fallback", SMALL_FALLBACK),
    Mutant("wait for the reading lease", "fallback", SMALL_FALLBACK),
    Mutant("wait for every worker", "fallback", SMALL_FALLBACK),
    Mutant("forgetting when the reading lease expired", "fallback", ("OTHERS=0", "LATE_WRITES=0")),
    Mutant("sweepers wait", "fallback", ("OTHERS=0", "LATE_WRITES=0")),
    Mutant("unchanged record", "fallback", ("OTHERS=0", "LATE_WRITES=0")),
    Mutant("spoiling before each memory", "memories"),
    Mutant("inner memory first", "memories"),
    Mutant("guard of the inner memory", "memories"),
    Mutant("guard of the inner memory", "memories", ("SERVICE",)),
    Mutant("comparison with the callers account", "memories", ("SERVICE",)),
    Mutant("whole second", "cutoffs"),
    Mutant("look at both marks", "cutoffs"),
    Mutant("eviction of the account mark", "cutoffs"),
    Mutant("eviction of the everywhere mark", "cutoffs"),
    Mutant("cutoff that never moves back", "cutoffs"),
    Mutant("intent", "intents"),
    Mutant("intent before the commit", "intents"),
    Mutant("forgetting at each look", "intents"),
    Mutant("completion after the receipt", "intents"),
    Mutant("end of the wait", "revoke", liveness=True),
    Mutant("end of the wait for readers", "revoke", liveness=True),
    Mutant("giving up", "revoke", liveness=True),
    Mutant("limit of attempts", "revoke", liveness=True),
)
