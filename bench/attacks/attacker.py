"""The process of an attack: `python -m bench.attacks.attacker`, controlled over its standard input.

The first line is an `AttackOrder` as JSON, and the reply is `prepared`. Then `go` starts the attack, with the reply
`started`, and `stop` stops it, with the counts as JSON in the reply. The process exits when its standard input is
closed, and therefore when the benchmark exits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from typing import Any

from bench.attacks import payloads
from bench.attacks.connection import Closed, Connection, bearer, request
from bench.attacks.schedule import RateLimiter
from kataven.identity.token import TokenKind, generate

TIMEOUT_SECONDS = 5.0
REOPEN_SECONDS = 0.05
"""The delay before a held connection is opened again after the server closed it."""


@dataclass(frozen=True)
class AttackOrder:
    """What to send, how often, and from which address. It can contain secrets, so it is not a command-line argument."""

    recipe: str
    """A key of `RECIPES`."""
    port: int
    source: str
    connections: int
    per_second: float = 0.0
    """Requests over all connections; 0 for connections that are only held open."""
    half_close: bool = False
    """Whether each request half-closes its connection."""
    given: dict[str, Any] = field(default_factory=dict, repr=False)
    """Arguments of the recipe."""


Recipe = Callable[..., Iterator[bytes]]


def _bodies(shape: str, size: int) -> Iterator[bytes]:
    return cycle([payloads.post_guest(getattr(payloads, shape)(size))])


def _guesses(account: str) -> Iterator[bytes]:
    """Well-formed keys of `account`, all different and never issued."""
    while True:
        yield request("GET", "/v1/agents", bearer(generate(TokenKind.API_KEY, account).text))


def _accounts(token: str, account: str | None) -> Iterator[bytes]:
    """One valid JWT for an account in which it has no role, or for accounts that don't exist."""
    for number in count():
        yield request("GET", "/v1/agents", bearer(token, account or f"nowhere-{number}"))


def _sign_in(host: str) -> Iterator[bytes]:
    return cycle([request("GET", "/sign-in", {"Host": host})])


def _guests(client_key: str, agent_id: str, origin: str) -> Iterator[bytes]:
    body = json.dumps({"client_key": client_key, "agent_id": agent_id}).encode()
    return cycle([request("POST", payloads.GUEST, {"Origin": origin}, body)])


def _silent(send: str, key: str | None = None) -> Iterator[bytes]:
    beginnings = {"nothing": b"", "half a head": payloads.half_head(), "half a body": payloads.half_body(key)}
    return cycle([beginnings[send]])


RECIPES: dict[str, Recipe] = {
    "bodies": _bodies,
    "guesses": _guesses,
    "accounts": _accounts,
    "sign-in": _sign_in,
    "guests": _guests,
    "chunks": lambda: cycle(payloads.broken_chunks()),
    "silent": _silent,
}


class Attacker:
    """One attack, which can be started and stopped repeatedly."""

    def __init__(self, order: AttackOrder) -> None:
        self._order = order
        self._messages = RECIPES[order.recipe](**order.given)
        self._counts: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._held = 0

    async def start(self) -> None:
        """Start the attack. If it only holds connections, returns when all of them are open."""
        self._counts = Counter()
        self._stopping.clear()
        work = self._send_requests if self._order.per_second else self._hold
        rate = RateLimiter(self._order.per_second or 1)
        self._tasks = [asyncio.create_task(work(rate)) for _ in range(self._order.connections)]
        if not self._order.per_second:
            await self._all_held()

    async def stop(self) -> Counter[str]:
        """Stop the attack. Returns the counts after all requests have ended."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        return self._counts

    async def _send_requests(self, rate: RateLimiter) -> None:
        """Send requests on one connection, at a rate that all connections share."""
        connection: Connection | None = None
        clock = asyncio.get_running_loop().time
        while not await self._stopped_within(rate.due(clock()) - clock()):
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    if connection is None or not connection.open:
                        connection = await Connection.to(self._order.port, self._order.source)
                    response = await connection.send_request(next(self._messages), half_close=self._order.half_close)
                    self._counts[str(response.status)] += 1
                if connection.open:
                    continue
            except Closed:
                self._counts["closed"] += 1
            except TimeoutError:
                self._counts["no response"] += 1
            if connection is not None:
                connection.close()
        if connection is not None:
            connection.close()

    async def _hold(self, _: RateLimiter) -> None:
        """Hold one connection after an incomplete request. Opened again when the server closes it."""
        while not self._stopping.is_set():
            try:
                connection = await Connection.to(self._order.port, self._order.source)
            except Closed:
                self._counts["refused"] += 1
                await self._stopped_within(REOPEN_SECONDS)
                continue
            connection.send(next(self._messages))
            self._held += 1
            self._counts["opened"] += 1
            await self._until_ended(connection)
            self._held -= 1
            connection.close()
            await self._stopped_within(REOPEN_SECONDS)

    async def _until_ended(self, connection: Connection) -> None:
        answered = asyncio.create_task(connection.receive())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((answered, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not answered.done():
            answered.cancel()
            await asyncio.wait((answered,))
            return
        try:
            self._counts[str(answered.result().status)] += 1
        except Closed:
            self._counts["closed"] += 1

    async def _all_held(self) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + TIMEOUT_SECONDS
        while self._held < self._order.connections and clock() < until:
            await asyncio.sleep(0.01)

    async def _stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, seconds))
        return self._stopping.is_set()


async def _main() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    order = AttackOrder(**json.loads(await commands.readline()))
    attacker = Attacker(order)
    _reply("prepared")
    while line := (await commands.readline()).strip():
        if line == b"go":
            await attacker.start()
            _reply("started")
        else:
            _reply(json.dumps(await attacker.stop()))


def _reply(line: str) -> None:
    print(line, flush=True)


def as_line(order: AttackOrder) -> bytes:
    """Encode the first line of the process's input."""
    return json.dumps(asdict(order)).encode() + b"\n"


if __name__ == "__main__":
    asyncio.run(_main())
