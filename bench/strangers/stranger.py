"""The process of an attack: `python -m bench.strangers.stranger`, told what to do on its standard input.

The first line is an `Order` as JSON; it answers `prepared`. From then on `go` starts the attack, answered with
`under way`, and `stop` ends it, answered with the counts as JSON. The process ends with its standard input, and so with
the bench.
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

from bench.strangers.latency import Pace

from bench.strangers import hostile
from bench.strangers.connection import Closed, Connection, bearer, request
from kataven.identity.token import TokenKind, generate

PATIENCE_SECONDS = 5.0
REOPEN_SECONDS = 0.05
"""After which a held connection that the server closed is opened again."""


@dataclass(frozen=True)
class Order:
    """What to send, how often, and from where. Secrets travel in here, and so never in a command line."""

    recipe: str
    """Of `RECIPES`."""
    port: int
    source: str
    connections: int
    per_second: float = 0.0
    """Requests over all connections; 0 for connections that are only held."""
    half_close: bool = False
    """Whether nothing more is sent after a request, and the server is told so."""
    given: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the recipe takes."""


Recipe = Callable[..., Iterator[bytes]]


def _bodies(shape: str, size: int) -> Iterator[bytes]:
    return cycle([hostile.post_guest(getattr(hostile, shape)(size))])


def _guesses(account: str) -> Iterator[bytes]:
    """Keys of `account` that are well-formed, each of them new and none of them issued."""
    while True:
        yield request("GET", "/v1/agents", bearer(generate(TokenKind.API_KEY, account).text))


def _accounts(token: str, account: str | None) -> Iterator[bytes]:
    """One good JWT for an account that it has no role in, or for one invented account after the other."""
    for number in count():
        yield request("GET", "/v1/agents", bearer(token, account or f"nowhere-{number}"))


def _sign_in(host: str) -> Iterator[bytes]:
    return cycle([request("GET", "/sign-in", {"Host": host})])


def _guests(client_key: str, agent_id: str, origin: str) -> Iterator[bytes]:
    body = json.dumps({"client_key": client_key, "agent_id": agent_id}).encode()
    return cycle([request("POST", hostile.GUEST, {"Origin": origin}, body)])


def _silent(send: str, key: str | None = None) -> Iterator[bytes]:
    beginnings = {"nothing": b"", "half a head": hostile.half_head(), "half a body": hostile.half_body(key)}
    return cycle([beginnings[send]])


RECIPES: dict[str, Recipe] = {
    "bodies": _bodies,
    "guesses": _guesses,
    "accounts": _accounts,
    "sign-in": _sign_in,
    "guests": _guests,
    "chunks": lambda: cycle(hostile.broken_chunks()),
    "silent": _silent,
}


class Stranger:
    """One attack, which may be started and stopped again and again."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._messages = RECIPES[order.recipe](**order.given)
        self._counts: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._held = 0

    async def go(self) -> None:
        """Returns when the attack is under way: when all the connections that it only holds are there."""
        self._counts = Counter()
        self._stopping.clear()
        work = self._ask if self._order.per_second else self._hold
        latency = Pace(self._order.per_second or 1)
        self._tasks = [asyncio.create_task(work(latency)) for _ in range(self._order.connections)]
        if not self._order.per_second:
            await self._all_held()

    async def stop(self) -> Counter[str]:
        """Returns what was answered once nothing is under way any more."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        return self._counts

    async def _ask(self, latency: Pace) -> None:
        """One request after the other on one connection, at the pace of all together."""
        connection: Connection | None = None
        clock = asyncio.get_running_loop().time
        while not await self._stopped_within(latency.due(clock()) - clock()):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    if connection is None or not connection.open:
                        connection = await Connection.to(self._order.port, self._order.source)
                    answer = await connection.ask(next(self._messages), half_close=self._order.half_close)
                    self._counts[str(answer.status)] += 1
                if connection.open:
                    continue
            except Closed:
                self._counts["closed"] += 1
            except TimeoutError:
                self._counts["no answer"] += 1
            if connection is not None:
                connection.close()
        if connection is not None:
            connection.close()

    async def _hold(self, _: Pace) -> None:
        """One connection that says what it says, and then nothing; opened again where the server ends it."""
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
        until = clock() + PATIENCE_SECONDS
        while self._held < self._order.connections and clock() < until:
            await asyncio.sleep(0.01)

    async def _stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, seconds))
        return self._stopping.is_set()


async def _main() -> None:
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    order = Order(**json.loads(await told.readline()))
    stranger = Stranger(order)
    _say("prepared")
    while line := (await told.readline()).strip():
        if line == b"go":
            await stranger.go()
            _say("under way")
        else:
            _say(json.dumps(await stranger.stop()))


def _say(line: str) -> None:
    print(line, flush=True)


def as_line(order: Order) -> bytes:
    """The first line that the process takes."""
    return json.dumps(asdict(order)).encode() + b"\n"


if __name__ == "__main__":
    asyncio.run(_main())
