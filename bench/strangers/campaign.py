"""One attack after the other: quiet, attack, quiet, attack, …, with the same good clients all the while."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Self

from bench.strangers.attacks import Attack
from bench.strangers.clients import MISSES_PER_SECOND, Clients
from bench.strangers.connection import HOST
from bench.strangers.observed import Counters, Observer
from bench.strangers.site import Site
from bench.strangers.stranger import Order, as_line
from bench.strangers.verdict import Cost, Row, Seen
from tests.support.gunicorn import CHECKOUT

PAIRS = 3
"""Slices of each sort."""
RAMP_SECONDS = 0.3
REFERENCE_SECONDS = 4.0
END_SECONDS = 10.0


class Process:
    """A stranger's process, from this side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def go(self) -> None:
        await self.tell(b"go\n")

    async def stop(self) -> Counter[str]:
        """What was answered since it was told to go."""
        return Counter(json.loads(await self.tell(b"stop\n")))

    async def tell(self, line: bytes) -> bytes:
        """Returns what it says to that. Raises RuntimeError if it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        await self._process.stdin.drain()
        said = await self._process.stdout.readline()
        if not said:
            raise RuntimeError("the attack's process has ended")
        return said


@asynccontextmanager
async def started(order: Order) -> AsyncIterator[Process]:
    """The process of an attack, prepared. It ends with the block, and also with this process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.strangers.stranger"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        start_new_session=True,  # Ctrl-C is for the bench, which ends it
    )
    try:
        stranger = Process(process)
        await stranger.tell(as_line(order))
        yield stranger
    finally:
        process.kill()
        await process.wait()


class Campaign:
    """All attacks on one site. Use it in an `async with`."""

    def __init__(self, site: Site, seconds: float) -> None:
        """`seconds` of each attack, and as many without it."""
        self._site = site
        self._slice_seconds = seconds / PAIRS
        self._observer = Observer(site.harness.environ, site.server.log)
        self._new_keys = site.unseen_keys()
        self._unseen: list[str] = []
        self._clients = Clients(site.server.port, site.key, self._next_unseen(), site.owner)
        self._per_second: Mapping[str, float] = {}

    async def __aenter__(self) -> Self:
        await self._clients.warm_up()
        self._stock_up(2.0 + REFERENCE_SECONDS)
        await self._clients.measure(2.0)
        before = self._observer.look()
        await self._clients.measure(REFERENCE_SECONDS)
        spent = _transactions(before, self._observer.look())
        self._per_second = {name: number / REFERENCE_SECONDS for name, number in spent.items()}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()
        self._observer.__exit__(kind, error, trace)

    async def run(self, attack: Attack, number: int) -> Row:
        """The attack, from the address of its own that `number` gives it."""
        quiet, attacked, cost = Seen(), Seen(), Cost()
        self._stock_up(2 * PAIRS * self._slice_seconds)
        clock = asyncio.get_running_loop().time
        keys, first, busy_seconds = self._observer.keys(), self._observer.look(), 0.0
        async with started(self._order(attack, number)) as stranger:
            began = clock()
            for _ in range(PAIRS):
                quiet.add(await self._clients.measure(self._slice_seconds))
                await stranger.go()
                await asyncio.sleep(RAMP_SECONDS)
                attacked.add(await self._clients.measure(self._slice_seconds))
                cost.answers += await stranger.stop()
                cost.seconds = clock() - began - self._slice_seconds
                busy_seconds += 2 * self._slice_seconds
                await self._clients.settle()
        last = self._observer.look()
        spent = _transactions(first, last)
        cost.lookups = {
            name: max(0.0, number - self._per_second[name] * busy_seconds) for name, number in spent.items()
        }
        cost.log_lines = last.log_lines - first.log_lines
        cost.log_bytes = last.log_bytes - first.log_bytes
        cost.redis_bytes = last.redis_bytes - first.redis_bytes
        cost.left_behind = self._observer.left_behind(keys)
        return Row(attack.name, attack.floors, quiet, attacked, cost)

    def _order(self, attack: Attack, number: int) -> Order:
        return Order(
            recipe=attack.recipe,
            port=self._site.server.port,
            source=HOST if attack.beside_good else f"127.0.1.{number + 1}",
            connections=attack.connections,
            per_second=attack.per_second,
            half_close=attack.half_close,
            given={name: self._filled_in(value) for name, value in attack.given.items()},
        )

    def _filled_in(self, value: Any) -> Any:
        return value.format_map(self._site.given) if isinstance(value, str) else value

    def _stock_up(self, seconds: float) -> None:
        """Have keys for so long, so that none has to be made while something is measured."""
        wanted = round(seconds * MISSES_PER_SECOND) + 10
        self._unseen += islice(self._new_keys, max(0, wanted - len(self._unseen)))

    def _next_unseen(self) -> Iterator[str]:
        while True:
            yield self._unseen.pop()


def _transactions(before: Counters, after: Counters) -> dict[str, int]:
    return {name: number - before.transactions[name] for name, number in after.transactions.items()}
