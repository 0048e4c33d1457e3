"""Worlds in which Redis is killed: it comes back at once, or only in the end."""

from __future__ import annotations

from bench.scenarios.persistent_redis import MEMORIES, Memory
from bench.scenarios.scenario import Turn, World

RESTART_EVERY = 5


class RedisRestarted(World):
    """Every fifth round Redis is killed and comes back, empty or not: just before a revocation, or during one.

    Just before is the worst moment: the new Redis knows of no worker, and each of them still counts on its lease. The
    second host's workers go on doing so, because their connections to the old one are half-open by then.
    """

    name = "redis-restarted"
    proxied = True

    def play(self, turn: Turn, number: int) -> None:
        restart, phase = divmod(number, RESTART_EVERY)
        if phase:
            super().play(turn, number)
            return
        memory = MEMORIES[restart // 2 % len(MEMORIES)]
        turn.kind = f"redis restarted, {memory}"
        if restart % 2:
            turn.ask(via=self.any_worker(restart))
            self._restart(memory)
        else:
            self.site.redis_proxy.swallow()
            self._restart(memory)
            turn.ask(via=self.any_worker(restart // 2, self.site.on_host(0)))
        turn.receipt()
        self.site.redis_proxy.heal()

    def before(self, number: int) -> None:
        if number % RESTART_EVERY == 0:
            self.site.wait_until_well()

    def end(self) -> None:
        self.site.redis_proxy.heal()

    def _restart(self, memory: Memory) -> None:
        self.site.redis.kill()
        self.site.redis.come_back(memory)


class RedisGone(World):
    """Redis is killed after a third of the rounds and is not there until the last two."""

    name = "redis-gone"
    lease_seconds = 0.2

    def begin(self) -> None:
        self._gone = False

    def before(self, number: int) -> None:
        if number == self.rounds // 3:
            self.site.redis.kill()
            self._gone = True
        if number == self.rounds - 2:
            self._return()
            self.site.wait_until_well()

    def play(self, turn: Turn, number: int) -> None:
        if self._gone:
            turn.kind = "redis gone"
        elif number >= self.rounds - 2:
            turn.kind = "redis back"
        super().play(turn, number)

    def end(self) -> None:
        self._return()

    def _return(self) -> None:
        if self._gone:
            self._gone = False
            self.site.redis.come_back(Memory.ALL)
