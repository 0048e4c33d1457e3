"""Scenarios in which Redis is killed and restarted, immediately or at the end."""

from __future__ import annotations

from bench.scenarios.persistent_redis import RESTORED_DATA, RestoredData
from bench.scenarios.scenario import Round, Scenario

RESTART_EVERY = 5


class RedisRestarted(Scenario):
    """Redis is killed and restarted, with or without data, in every fifth round: before a revocation or during it.

    Immediately before is the worst time: the new Redis has no list of workers, and each worker still holds its lease.
    The second host's workers keep theirs, because their connections to the old Redis are half-open.
    """

    name = "redis-restarted"
    proxied = True

    def run_round(self, current_round: Round, number: int) -> None:
        restart, phase = divmod(number, RESTART_EVERY)
        if phase:
            super().run_round(current_round, number)
            return
        data = RESTORED_DATA[restart // 2 % len(RESTORED_DATA)]
        current_round.kind = f"redis restarted, {data}"
        if restart % 2:
            current_round.start_revocation(via=self.pick_worker(restart))
            self._restart(data)
        else:
            self.site.redis_proxy.swallow()
            self._restart(data)
            current_round.start_revocation(via=self.pick_worker(restart // 2, self.site.on_host(0)))
        current_round.wait_for_receipt()
        self.site.redis_proxy.heal()

    def before_round(self, number: int) -> None:
        if number % RESTART_EVERY == 0:
            self.site.wait_until_healthy()

    def tear_down(self) -> None:
        self.site.redis_proxy.heal()

    def _restart(self, data: RestoredData) -> None:
        self.site.redis.kill()
        self.site.redis.start_with(data)


class RedisGone(Scenario):
    """Redis is killed after a third of the rounds and restarted before the last two."""

    name = "redis-gone"
    lease_seconds = 0.2

    def set_up(self) -> None:
        self._gone = False

    def before_round(self, number: int) -> None:
        if number == self.rounds // 3:
            self.site.redis.kill()
            self._gone = True
        if number == self.rounds - 2:
            self._return()
            self.site.wait_until_healthy()

    def run_round(self, current_round: Round, number: int) -> None:
        if self._gone:
            current_round.kind = "redis gone"
        elif number >= self.rounds - 2:
            current_round.kind = "redis back"
        super().run_round(current_round, number)

    def tear_down(self) -> None:
        self._return()

    def _return(self) -> None:
        if self._gone:
            self._gone = False
            self.site.redis.start_with(RestoredData.ALL)
