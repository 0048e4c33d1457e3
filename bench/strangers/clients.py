"""The good clients: a known key, keys that no worker has seen, a load balancer's probe, and an owner who revokes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from itertools import count
from typing import Any

from bench.strangers.latency import open_loop

from bench.strangers.connection import HOST, LATE_ADDRESS, Answer, Closed, Connection, Pool, bearer, request
from bench.strangers.verdict import Seen

GOOD_PER_SECOND = 40.0
MISSES_PER_SECOND = 4.0
PROBES_PER_SECOND = 4.0
REVOCATIONS_PER_SECOND = 2.0
PATIENCE_SECONDS = 5.0
"""From when a request was due; the probes of load balancers have about as much."""
SHOWN = 4
"""On how many connections a key is used before it is revoked, and again after its receipt."""
MOST_TRIES = 5
NO_ANSWER_MS = PATIENCE_SECONDS * 1000

_PROBE = request("GET", "/healthz", {})


class Clients:
    """All of them, at one server, from one address."""

    def __init__(self, port: int, key: str, unseen: Iterator[str], owner: dict[str, str]) -> None:
        """`owner` is the headers that let the owner in; `unseen` has keys that were never used."""
        self._port = port
        self._good = request("GET", "/v1/agents", bearer(key))
        self._unseen = unseen
        self._owner = owner
        self._known = Pool(port, HOST, 8)
        self._unknown = Pool(port, HOST, 4)
        self._revoker = Pool(port, HOST, 2)
        self._shower = Pool(port, HOST, 8)
        # From another address: revoked keys that are shown again spend the budget of the address that shows them.
        self._late = Pool(port, LATE_ADDRESS, 8)
        self._seeds = count()

    async def warm_up(self) -> None:
        """Open every connection, so that both workers know the key and no slice begins with connecting."""
        for pool in (self._known, self._unknown, self._revoker, self._shower, self._late):
            await pool.fill(self._good)

    def close(self) -> None:
        for pool in (self._known, self._unknown, self._revoker, self._shower, self._late):
            pool.close()

    async def measure(self, seconds: float) -> Seen:
        """Ask for so long, and return when everything was answered or given up."""
        seen = Seen()
        began = asyncio.get_running_loop().time()

        def times(per_second: float) -> Iterator[float]:
            return open_loop(began, seconds, per_second, next(self._seeds))

        async with asyncio.TaskGroup() as group:
            group.create_task(_spread(times(GOOD_PER_SECOND), lambda due: self._ask_known(seen, due)))
            group.create_task(_spread(times(MISSES_PER_SECOND), lambda due: self._ask_unknown(seen, due)))
            group.create_task(_spread(times(PROBES_PER_SECOND), lambda due: self._probe(seen, due)))
            group.create_task(self._revoke_all(seen, times(REVOCATIONS_PER_SECOND), began + seconds))
        return seen

    async def settle(self) -> None:
        """Return when the server has time again. Raises TimeoutError if that takes half a minute."""
        async with asyncio.timeout(30):
            in_time = 0
            while in_time < 5:
                seen = Seen()
                await self._probe(seen, _now())
                await self._ask_known(seen, _now())
                in_time = in_time + 1 if max(*seen.probe_ms, *seen.good_ms) < NO_ANSWER_MS / 50 else 0

    async def _ask_known(self, seen: Seen, due: float) -> None:
        seen.good_ms.append(await _timed(seen, "good", self._known.ask(self._good), due))

    async def _ask_unknown(self, seen: Seen, due: float) -> None:
        message = request("GET", "/v1/agents", bearer(next(self._unseen)))
        seen.miss_ms.append(await _timed(seen, "miss", _as_told(self._unknown, message), due))

    async def _probe(self, seen: Seen, due: float) -> None:
        taken = await _timed(Seen(), "probe", self._ask_afresh(_PROBE), due)
        seen.probe_ms.append(taken)
        seen.probes_failed += taken == NO_ANSWER_MS

    async def _ask_afresh(self, message: bytes) -> Answer:
        connection = await Connection.to(self._port, HOST)
        try:
            return await connection.ask(message)
        finally:
            connection.close()

    async def _revoke_all(self, seen: Seen, times: Iterator[float], until: float) -> None:
        """One after the other, so that one which takes long leaves some out instead of queueing."""
        for due in times:
            await asyncio.sleep(max(0.0, due - _now()))
            if _now() < until:
                await self._revoke(seen)

    async def _revoke(self, seen: Seen) -> None:
        """Make a key, use it on several connections, end it, and use it once more after the receipt."""
        minted = await _asked(
            self._revoker.ask(self._as_owner("POST", "/v1/api-keys", {"name": "bench", "expiry": "30d"}))
        )
        if not isinstance(minted, Answer) or minted.status != 201:
            seen.wrong[f"mint {_outcome(minted)}"] += 1
            seen.receipt_ms.append(NO_ANSWER_MS)
            return
        key = minted.json()
        use = request("GET", "/v1/agents", bearer(key["key"]))
        for used in await asyncio.gather(*(_asked(_as_told(self._shower, use)) for _ in range(SHOWN))):
            if _outcome(used) != "200":
                seen.wrong[f"use {_outcome(used)}"] += 1
        end = self._as_owner("PATCH", f"/v1/api-keys/{key['id']}", {"disabled": True})
        began = _now()
        receipt = await _asked(self._revoker.ask(end))
        if not isinstance(receipt, Answer) or receipt.status != 200:
            seen.wrong[f"revoke {_outcome(receipt)}"] += 1
            seen.receipt_ms.append(NO_ANSWER_MS)
            return
        seen.receipt_ms.append((_now() - began) * 1000)
        for late in await asyncio.gather(*(_asked(self._late.ask(use)) for _ in range(SHOWN))):
            seen.checks += 1
            seen.late_accepts += _outcome(late) == "200"
            # 429 is a refusal too: an address that shows revoked keys again and again spends its budget.
            if _outcome(late) not in {"200", "403", "429"}:
                seen.wrong[f"late {_outcome(late)}"] += 1

    def _as_owner(self, method: str, path: str, body: Any) -> bytes:
        return request(method, path, self._owner, json.dumps(body).encode())


async def _as_told(pool: Pool, message: bytes) -> Answer:
    """Ask with a key that no worker knows: where its address has spent its budget, again after `Retry-After` (1 s)."""
    for _ in range(MOST_TRIES - 1):
        answer = await pool.ask(message)
        if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
            return answer
        await asyncio.sleep(1.0)
    return await pool.ask(message)


async def _spread(times: Iterator[float], ask: Callable[[float], Awaitable[None]]) -> None:
    """Ask at each of these times, whatever has become of the requests before."""
    async with asyncio.TaskGroup() as group:
        for due in times:
            await asyncio.sleep(max(0.0, due - _now()))
            group.create_task(_as_coroutine(ask, due))


async def _as_coroutine(ask: Callable[[float], Awaitable[None]], due: float) -> None:
    await ask(due)


async def _timed(seen: Seen, who: str, asking: Awaitable[Answer], due: float) -> float:
    """The milliseconds from when it was due to its 200; all patience for anything else."""
    answer = await _asked(asking, due)
    if _outcome(answer) == "200":
        return (_now() - due) * 1000
    seen.wrong[f"{who} {_outcome(answer)}"] += 1
    return NO_ANSWER_MS


async def _asked(asking: Awaitable[Answer], due: float | None = None) -> Answer | str:
    """The answer, or in a word why there is none."""
    try:
        async with asyncio.timeout_at((_now() if due is None else due) + PATIENCE_SECONDS):
            return await asking
    except TimeoutError:
        return "no answer"
    except Closed:
        return "closed"


def _outcome(answer: Answer | str) -> str:
    return answer if isinstance(answer, str) else str(answer.status)


def _now() -> float:
    return asyncio.get_running_loop().time()
