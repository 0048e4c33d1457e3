"""Revoked means revoked, on the product as it runs, whatever goes wrong around it.

Two gunicorn masters stand for two hosts, with two workers each, on a PostgreSQL and a Redis of their own. Eight threads
hammer a key, two on each worker. Alice revokes it, and once she has her receipt nobody may be let in with it any more.
A round is one key. A world is what goes wrong meanwhile:

    ground    PostgreSQL, issuer, account, keys       site      the hosts and their workers
    hammer    the threads                             score     what they saw
    world     a round, when all is well               processes, redis_worlds, wire_worlds    the others
    sabotage  the product without one of its rules, to see that the worlds notice
"""

from bench.scenarios.network_scenarios import HalfOpen, LostMessage, RevokerCutOff, SlowRead
from bench.scenarios.process_scenarios import BusyMachine, PausedWorker
from bench.scenarios.redis_scenarios import RedisGone, RedisRestarted
from bench.scenarios.scenario import Scenario

SCENARIOS: tuple[type[Scenario], ...] = (
    Scenario,
    PausedWorker,
    RedisRestarted,
    RedisGone,
    HalfOpen,
    RevokerCutOff,
    LostMessage,
    SlowRead,
    BusyMachine,
)

__all__ = [
    "SCENARIOS",
    "BusyMachine",
    "HalfOpen",
    "LostMessage",
    "PausedWorker",
    "RedisGone",
    "RedisRestarted",
    "RevokerCutOff",
    "Scenario",
    "SlowRead",
]
