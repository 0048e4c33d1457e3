"""Worlds in which the second host is badly connected, to Redis or to its databases."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.scenarios.scenario import Turn, World
from bench.scenarios.site import Worker

EVERYTHING = re.compile(b"")
EVENT = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$\d+\r\n\{kataven:revocation\}[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")
"""A push, in RESP3."""
KEY_LOOKUP = re.compile(rb"SELECT .*key_hash IN ", re.DOTALL)


class HalfOpen(World):
    """The second host's connections to Redis stand, and nothing comes through: never again, or not until later."""

    name = "half-open"
    lease_seconds = 0.2
    proxied = True

    def before(self, number: int) -> None:
        self._mend()
        self.site.wait_until_well()

    def play(self, turn: Turn, number: int) -> None:
        via = self.any_worker(number, self.site.on_host(0))
        if number % 2:
            turn.kind = "held back"
            self.site.redis_proxy.hold(EVERYTHING)
        else:
            turn.kind = "swallowed"
            self.site.redis_proxy.swallow()
        turn.ask(via)
        turn.receipt()

    def end(self) -> None:
        self._mend()

    def _mend(self) -> None:
        self.site.redis_proxy.heal()
        self.site.redis_proxy.release()


class RevokerCutOff(HalfOpen):
    """It is the revoker that can't reach Redis, while the first host can, and keeps its lease there."""

    name = "revoker-cut-off"

    def play(self, turn: Turn, number: int) -> None:
        turn.kind = "revoker cut off"
        self.site.redis_proxy.swallow()
        turn.ask(via=self.any_worker(number, self.site.on_host(1)))
        turn.receipt()


class LostMessage(World):
    """What is published never reaches the second host, though its connection to Redis is in order."""

    name = "lost-message"
    lease_seconds = 0.2
    proxied = True

    def begin(self) -> None:
        self.site.redis_proxy.lose(EVENT)

    def before(self, number: int) -> None:
        self.site.wait_until_well()

    def play(self, turn: Turn, number: int) -> None:
        turn.kind = "message lost"
        super().play(turn, number)

    def end(self) -> None:
        self.site.redis_proxy.lose_nothing()


class SlowRead(World):
    """The second host asks its database about a key, and hears that it is good when its revocation has been answered.

    The database has said so before the revocation; the answer is held back on its way, until the receipt is out.
    """

    name = "slow-read"
    proxied = True

    def before(self, number: int) -> None:
        self.site.wait_until_well()

    def audience(self) -> Sequence[Worker]:
        return self.site.on_host(0)

    def play(self, turn: Turn, number: int) -> None:
        turn.kind = "read under way"
        slow, proxy = self.site.on_host(1), self.site.database_proxy
        proxy.hold(KEY_LOOKUP)
        try:
            turn.show(slow)
            proxy.wait_until_held(sum(len(worker.clients) for worker in slow))
            turn.ask(via=self.any_worker(number))
            turn.receipt()
        finally:
            proxy.release()
