"""HTTP/1.1 over one connection, from a loopback address of its own.

The API has budgets per client address for rejected credentials. Each connection of the load has another address, so
that these budgets do not affect the results.
"""

from __future__ import annotations

import random
import socket

from bench.scenarios.connection import Connection
from topologies.network import inside, namespace_of

LOCALHOST = "127.0.0.1"
TIMEOUT_SECONDS = 30.0


class ClientConnection(Connection):
    """A connection from a random loopback address. Raises OSError if the server refuses or closes it."""

    def __init__(self, port: int) -> None:
        with inside(namespace_of(port)):
            self._socket = socket.create_connection((LOCALHOST, port), TIMEOUT_SECONDS, (random_address(), 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def random_address() -> str:
    return f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"  # noqa: S311
