"""The valid clients: a cached key, keys that no worker has cached, a load balancer's probe, and a revoking owner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from itertools import count
from typing import Any

from bench.attacks.connection import HOST, LATE_ADDRESS, Closed, Connection, Pool, Response, bearer, request
from bench.attacks.schedule import open_loop
from bench.attacks.verdict import Observations

KNOWN_PER_SECOND = 40.0
MISSES_PER_SECOND = 4.0
PROBES_PER_SECOND = 4.0
REVOCATIONS_PER_SECOND = 2.0
TIMEOUT_SECONDS = 5.0
"""From the time a request was due. Probes of load balancers have similar timeouts."""
USES = 4
"""The number of connections on which a key is used before its revocation, and again after its receipt."""
MAX_TRIES = 5
TIMEOUT_MS = TIMEOUT_SECONDS * 1000

_PROBE = request("GET", "/healthz", {})


class Clients:
    """All valid clients of one server, from one address."""

    def __init__(self, port: int, key: str, unused: Iterator[str], owner: dict[str, str]) -> None:
        """`owner` contains the owner's credential headers; `unused` returns keys that were never used."""
        self._port = port
        self._good = request("GET", "/v1/agents", bearer(key))
        self._unused = unused
        self._owner = owner
        self._known = Pool(port, HOST, 8)
        self._unknown = Pool(port, HOST, 4)
        self._revoker = Pool(port, HOST, 2)
        self._users = Pool(port, HOST, 8)
        # From another address, because requests with revoked keys count toward the budget of their address.
        self._late = Pool(port, LATE_ADDRESS, 8)
        self._seeds = count()

    async def warm_up(self) -> None:
        """Open every connection, so both workers have cached the key and no slice starts with connecting."""
        for pool in (self._known, self._unknown, self._revoker, self._users, self._late):
            await pool.fill(self._good)

    def close(self) -> None:
        for pool in (self._known, self._unknown, self._revoker, self._users, self._late):
            pool.close()

    async def measure(self, seconds: float) -> Observations:
        """Send requests for `seconds`. Returns when every request has a response or timed out."""
        seen = Observations()
        started = asyncio.get_running_loop().time()

        def times(per_second: float) -> Iterator[float]:
            return open_loop(started, seconds, per_second, next(self._seeds))

        async with asyncio.TaskGroup() as group:
            group.create_task(_run_schedule(times(KNOWN_PER_SECOND), lambda due: self._request_known(seen, due)))
            group.create_task(_run_schedule(times(MISSES_PER_SECOND), lambda due: self._request_unknown(seen, due)))
            group.create_task(_run_schedule(times(PROBES_PER_SECOND), lambda due: self._probe(seen, due)))
            group.create_task(self._revoke_all(seen, times(REVOCATIONS_PER_SECOND), started + seconds))
        return seen

    async def wait_until_idle(self) -> None:
        """Wait until the server responds quickly again. Raises TimeoutError after 30 seconds."""
        async with asyncio.timeout(30):
            in_time = 0
            while in_time < 5:
                seen = Observations()
                await self._probe(seen, _now())
                await self._request_known(seen, _now())
                in_time = in_time + 1 if max(*seen.probe_ms, *seen.known_ms) < TIMEOUT_MS / 50 else 0

    async def _request_known(self, seen: Observations, due: float) -> None:
        seen.known_ms.append(await _timed(seen, "valid key", self._known.send_request(self._good), due))

    async def _request_unknown(self, seen: Observations, due: float) -> None:
        message = request("GET", "/v1/agents", bearer(next(self._unused)))
        seen.miss_ms.append(await _timed(seen, "cache miss", _with_retries(self._unknown, message), due))

    async def _probe(self, seen: Observations, due: float) -> None:
        taken = await _timed(Observations(), "probe", self._request_on_new_connection(_PROBE), due)
        seen.probe_ms.append(taken)
        seen.probes_failed += taken == TIMEOUT_MS

    async def _request_on_new_connection(self, message: bytes) -> Response:
        connection = await Connection.to(self._port, HOST)
        try:
            return await connection.send_request(message)
        finally:
            connection.close()

    async def _revoke_all(self, seen: Observations, times: Iterator[float], until: float) -> None:
        """Revoke one key after the other. If one takes long, the next ones are skipped and not queued."""
        for due in times:
            await asyncio.sleep(max(0.0, due - _now()))
            if _now() < until:
                await self._revoke(seen)

    async def _revoke(self, seen: Observations) -> None:
        """Create a key, use it on several connections, revoke it, and use it again after the receipt."""
        created = await _response(
            self._revoker.send_request(self._as_owner("POST", "/v1/api-keys", {"name": "bench", "expiry": "30d"}))
        )
        if not isinstance(created, Response) or created.status != 201:
            seen.wrong[f"create {_outcome(created)}"] += 1
            seen.receipt_ms.append(TIMEOUT_MS)
            return
        key = created.json()
        use = request("GET", "/v1/agents", bearer(key["key"]))
        for used in await asyncio.gather(*(_response(_with_retries(self._users, use)) for _ in range(USES))):
            if _outcome(used) != "200":
                seen.wrong[f"use {_outcome(used)}"] += 1
        end = self._as_owner("PATCH", f"/v1/api-keys/{key['id']}", {"disabled": True})
        started = _now()
        receipt = await _response(self._revoker.send_request(end))
        if not isinstance(receipt, Response) or receipt.status != 200:
            seen.wrong[f"revoke {_outcome(receipt)}"] += 1
            seen.receipt_ms.append(TIMEOUT_MS)
            return
        seen.receipt_ms.append((_now() - started) * 1000)
        for late in await asyncio.gather(*(_response(self._late.send_request(use)) for _ in range(USES))):
            seen.checks += 1
            seen.late_accepts += _outcome(late) == "200"
            # 429 is a rejection too: requests with revoked keys exhaust the budget of their address.
            if _outcome(late) not in {"200", "403", "429"}:
                seen.wrong[f"late {_outcome(late)}"] += 1

    def _as_owner(self, method: str, path: str, body: Any) -> bytes:
        return request(method, path, self._owner, json.dumps(body).encode())


async def _with_retries(pool: Pool, message: bytes) -> Response:
    """Send a key that no worker has cached, and retry after `Retry-After` (1 s) if the response is 429."""
    for _ in range(MAX_TRIES - 1):
        response = await pool.send_request(message)
        if response.status != HTTPStatus.TOO_MANY_REQUESTS:
            return response
        await asyncio.sleep(1.0)
    return await pool.send_request(message)


async def _run_schedule(times: Iterator[float], send_request: Callable[[float], Awaitable[None]]) -> None:
    """Send a request at each of these times, independent of earlier responses."""
    async with asyncio.TaskGroup() as group:
        for due in times:
            await asyncio.sleep(max(0.0, due - _now()))
            group.create_task(_as_coroutine(send_request, due))


async def _as_coroutine(send_request: Callable[[float], Awaitable[None]], due: float) -> None:
    await send_request(due)


async def _timed(seen: Observations, who: str, asking: Awaitable[Response], due: float) -> float:
    """Milliseconds from the due time to the 200 response; the timeout for any other outcome."""
    response = await _response(asking, due)
    if _outcome(response) == "200":
        return (_now() - due) * 1000
    seen.wrong[f"{who} {_outcome(response)}"] += 1
    return TIMEOUT_MS


async def _response(asking: Awaitable[Response], due: float | None = None) -> Response | str:
    """The response, or the reason why there is none."""
    try:
        async with asyncio.timeout_at((_now() if due is None else due) + TIMEOUT_SECONDS):
            return await asking
    except TimeoutError:
        return "no response"
    except Closed:
        return "closed"


def _outcome(response: Response | str) -> str:
    return response if isinstance(response, str) else str(response.status)


def _now() -> float:
    return asyncio.get_running_loop().time()
