"""Fault scenarios: checks the revocation guarantee on the complete product under load.

Two gunicorn masters represent two hosts, with two workers each, and share a PostgreSQL and a Redis. Eight threads send
requests with a key, two on each worker. Alice revokes the key, and after she has received the receipt no request may be
accepted. One round uses one key. A scenario defines the fault that is injected in its rounds:

    environment         PostgreSQL, OIDC issuer, account and keys
    site                the hosts and their workers
    load, score         the threads that send requests, and their results
    scenario            the base class: a round without faults
    process_scenarios, redis_scenarios, network_scenarios    the scenarios with a fault
    disabled_rules      the product without one rule of the protocol, to check that the scenarios detect it
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
