"""TCP ports on this machine: whether one is free, and whether something answers there."""

from __future__ import annotations

import http.client
import socket

from kataven.dev.errors import DevError

HOST = "127.0.0.1"


def require_free_port(port: int, variable: str) -> None:
    """Raise DevError, naming the port and the `variable` that chooses it, if a server can't listen there."""
    try:
        _listen(port)
    except PermissionError:
        raise DevError(
            f"{variable}: port {port} is only for root; choose one above 1023, such as {variable}=8000"
        ) from None
    except OSError:
        raise DevError(
            f"{variable}: port {port} is in use; stop what listens there, or choose another {variable}"
        ) from None


def free_port(preferred: int) -> int:
    """`preferred` if a server can listen there, else a port that the system picks."""
    try:
        return _listen(preferred)
    except (OSError, OverflowError):
        return _listen(0)


def answers(port: int, path: str) -> bool:
    """Whether `GET path` gets a 200 there. Not by httpx2 or urllib: a proxy from the environment has no say here."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _listen(port: int) -> int:
    """As a server would; returns the port, which is free again."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((HOST, port))
        server.listen()
        bound: int = server.getsockname()[1]
        return bound
