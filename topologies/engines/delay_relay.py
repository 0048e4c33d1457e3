"""A relay that delays what passes through it, in a process of its own: a far server without a far network.

`python -m topologies.engines.delay_relay PORT UPSTREAM ROUND_TRIP_MS [NAMESPACE]`. UPSTREAM is a port of this machine,
or the path of a Unix socket. With NAMESPACE, it listens in this network namespace. Bytes keep their order and their
distance in time, as on a network without loss.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from functools import partial

from topologies.network import inside

CHUNK = 65_536


async def serve(port: int, upstream: str, round_trip_seconds: float, namespace: str | None) -> None:
    """Relay connections until the process ends."""
    with inside(namespace):
        listener = socket.create_server(("127.0.0.1", port))
    server = await asyncio.start_server(partial(_relay, upstream, round_trip_seconds / 2), sock=listener)
    async with server:
        await server.serve_forever()


async def _relay(
    upstream: str, delay: float, near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter
) -> None:
    try:
        if upstream.isdecimal():
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(upstream))
        else:
            far_reader, far_writer = await asyncio.open_unix_connection(upstream)
    except OSError:
        near_writer.close()
        return
    await asyncio.gather(
        _copy(near_reader, far_writer, delay), _copy(far_reader, near_writer, delay), return_exceptions=True
    )


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Read as bytes arrive, and write each of them `delay` seconds later."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    writing = asyncio.create_task(_write(waiting, writer))
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            waiting.put_nowait((loop.time() + delay, data))
    waiting.put_nowait((loop.time() + delay, b""))
    await writing


async def _write(waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while True:
            due, data = await waiting.get()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    namespace = sys.argv[4] if len(sys.argv) > 4 else None
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]) / 1_000, namespace))
