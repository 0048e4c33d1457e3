"""Scenarios in which the second host has a faulty connection to Redis or to its databases."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.scenarios.scenario import Round, Scenario
from bench.scenarios.site import Worker

EVERYTHING = re.compile(b"")
EVENT = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$\d+\r\n\{kataven:revocation\}[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")
"""A RESP3 push message."""
# The statement is prepared with its first execution. Of the prepared ones, only this one has a digest as its parameter.
KEY_LOOKUP = re.compile(rb"SELECT .*key_hash = ANY|EXECUTE kataven_\d+\(ARRAY\[E?'\\+x", re.DOTALL)


class HalfOpen(Scenario):
    """The second host's connections to Redis are half-open: their traffic is dropped or delayed."""

    name = "half-open"
    lease_seconds = 0.2
    proxied = True

    def before_round(self, number: int) -> None:
        self._repair()
        self.site.wait_until_healthy()

    def run_round(self, current_round: Round, number: int) -> None:
        via = self.pick_worker(number, self.site.on_host(0))
        if number % 2:
            current_round.kind = "delayed"
            self.site.redis_proxy.hold(EVERYTHING)
        else:
            current_round.kind = "dropped"
            self.site.redis_proxy.swallow()
        current_round.start_revocation(via)
        current_round.wait_for_receipt()

    def tear_down(self) -> None:
        self._repair()

    def _repair(self) -> None:
        self.site.redis_proxy.heal()
        self.site.redis_proxy.release()


class RevokerCutOff(HalfOpen):
    """The revoker cannot reach Redis, while the first host can and keeps its lease."""

    name = "revoker-cut-off"

    def run_round(self, current_round: Round, number: int) -> None:
        current_round.kind = "revoker cut off"
        self.site.redis_proxy.swallow()
        current_round.start_revocation(via=self.pick_worker(number, self.site.on_host(1)))
        current_round.wait_for_receipt()


class LostMessage(Scenario):
    """Published events do not reach the second host, although its connection to Redis works."""

    name = "lost-message"
    lease_seconds = 0.2
    proxied = True

    def set_up(self) -> None:
        self.site.redis_proxy.lose(EVENT)

    def before_round(self, number: int) -> None:
        self.site.wait_until_healthy()

    def run_round(self, current_round: Round, number: int) -> None:
        current_round.kind = "message lost"
        super().run_round(current_round, number)

    def tear_down(self) -> None:
        self.site.redis_proxy.lose_nothing()


class SlowRead(Scenario):
    """The second host reads a valid key from its database, and the result arrives after the receipt was returned.

    The database sent the result before the revocation; the proxy delays it until the receipt is returned.
    """

    name = "slow-read"
    proxied = True

    def before_round(self, number: int) -> None:
        self.site.wait_until_healthy()

    def workers_to_warm(self) -> Sequence[Worker]:
        return self.site.on_host(0)

    def run_round(self, current_round: Round, number: int) -> None:
        current_round.kind = "read in progress"
        slow, proxy = self.site.on_host(1), self.site.database_proxy
        proxy.hold(KEY_LOOKUP)
        try:
            current_round.send_on(slow)
            proxy.wait_until_held(sum(len(worker.clients) for worker in slow))
            current_round.start_revocation(via=self.pick_worker(number))
            current_round.wait_for_receipt()
        finally:
            proxy.release()
