"""Runs the attacks one after the other, alternating slices with and without the attack, with the same clients."""

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

from bench.attacks.attacker import AttackOrder, as_line
from bench.attacks.catalog import Attack
from bench.attacks.clients import MISSES_PER_SECOND, Clients
from bench.attacks.connection import HOST
from bench.attacks.observer import Counters, Observer
from bench.attacks.site import Site
from bench.attacks.verdict import Cost, Observations, Row
from tests.support.gunicorn import CHECKOUT

PAIRS = 3
"""Slices with the attack, and slices without it."""
RAMP_SECONDS = 0.3
REFERENCE_SECONDS = 4.0
END_SECONDS = 10.0


class Process:
    """The attacker's process, controlled over its standard streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def start(self) -> None:
        await self.send(b"go\n")

    async def stop(self) -> Counter[str]:
        """Stop the attack. Returns the responses since `start`, by status."""
        return Counter(json.loads(await self.send(b"stop\n")))

    async def send(self, line: bytes) -> bytes:
        """Send a line and return the reply. Raises RuntimeError if the process has exited."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        await self._process.stdin.drain()
        reply = await self._process.stdout.readline()
        if not reply:
            raise RuntimeError("the attacker's process has exited")
        return reply


@asynccontextmanager
async def start_attacker(order: AttackOrder) -> AsyncIterator[Process]:
    """A prepared attacker process. It exits at the end of the block, or when this process exits."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.attacks.attacker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        start_new_session=True,  # only the benchmark handles Ctrl-C, and stops the attacker
    )
    try:
        attacker = Process(process)
        await attacker.send(as_line(order))
        yield attacker
    finally:
        process.kill()
        await process.wait()


class Campaign:
    """Runs attacks on one site. Use it with `async with`."""

    def __init__(self, site: Site, seconds: float) -> None:
        """`seconds` is the duration of each attack, and of the same time without it."""
        self._site = site
        self._slice_seconds = seconds / PAIRS
        self._observer = Observer(site.harness.environ, site.server.log)
        self._key_source = site.unused_keys()
        self._unused: list[str] = []
        self._clients = Clients(site.server.port, site.key, self._next_unused(), site.owner)
        self._per_second: Mapping[str, float] = {}

    async def __aenter__(self) -> Self:
        await self._clients.warm_up()
        self._prepare_keys(2.0 + REFERENCE_SECONDS)
        await self._clients.measure(2.0)
        before = self._observer.read_counters()
        await self._clients.measure(REFERENCE_SECONDS)
        spent = _transactions(before, self._observer.read_counters())
        self._per_second = {name: number / REFERENCE_SECONDS for name, number in spent.items()}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()
        self._observer.__exit__(kind, error, trace)

    async def run(self, attack: Attack, number: int) -> Row:
        """Run an attack from a separate address, which depends on `number`."""
        quiet, attacked, cost = Observations(), Observations(), Cost()
        self._prepare_keys(2 * PAIRS * self._slice_seconds)
        clock = asyncio.get_running_loop().time
        keys, first, busy_seconds = self._observer.keys(), self._observer.read_counters(), 0.0
        async with start_attacker(self._order(attack, number)) as attacker:
            started = clock()
            for _ in range(PAIRS):
                quiet.add(await self._clients.measure(self._slice_seconds))
                await attacker.start()
                await asyncio.sleep(RAMP_SECONDS)
                attacked.add(await self._clients.measure(self._slice_seconds))
                cost.responses += await attacker.stop()
                cost.seconds = clock() - started - self._slice_seconds
                busy_seconds += 2 * self._slice_seconds
                await self._clients.wait_until_idle()
        last = self._observer.read_counters()
        spent = _transactions(first, last)
        cost.lookups = {
            name: max(0.0, number - self._per_second[name] * busy_seconds) for name, number in spent.items()
        }
        cost.log_lines = last.log_lines - first.log_lines
        cost.log_bytes = last.log_bytes - first.log_bytes
        cost.redis_bytes = last.redis_bytes - first.redis_bytes
        cost.left_behind = self._observer.left_behind(keys)
        return Row(attack.name, attack.ceilings, quiet, attacked, cost)

    def _order(self, attack: Attack, number: int) -> AttackOrder:
        return AttackOrder(
            recipe=attack.recipe,
            port=self._site.server.port,
            source=HOST if attack.from_client_address else f"127.0.1.{number + 1}",
            connections=attack.connections,
            per_second=attack.per_second,
            half_close=attack.half_close,
            given={name: self._with_site_values(value) for name, value in attack.given.items()},
        )

    def _with_site_values(self, value: Any) -> Any:
        return value.format_map(self._site.given) if isinstance(value, str) else value

    def _prepare_keys(self, seconds: float) -> None:
        """Create enough unused keys for `seconds`, so none is created during a measurement."""
        wanted = round(seconds * MISSES_PER_SECOND) + 10
        self._unused += islice(self._key_source, max(0, wanted - len(self._unused)))

    def _next_unused(self) -> Iterator[str]:
        while True:
            yield self._unused.pop()


def _transactions(before: Counters, after: Counters) -> dict[str, int]:
    return {name: number - before.transactions[name] for name, number in after.transactions.items()}
