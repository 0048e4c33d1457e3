"""TCP ports on this machine: whether a port is free, and whether a server responds on it."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing

from kataven.dev.embedded.errors import DevError

HOST = "127.0.0.1"


def require_free_port(port: int, variable: str) -> None:
    """Raise DevError, with the port and the `variable` that sets it, if a server can't listen on it."""
    try:
        _listen(port)
    except PermissionError:
        raise DevError(
            f"{variable}: only root can listen on port {port}; choose a port above 1023, such as {variable}=8000"
        ) from None
    except OSError:
        raise DevError(
            f"{variable}: port {port} is in use; stop the program that listens on it, or choose another {variable}"
        ) from None


def free_port(preferred: int) -> int:
    """`preferred` if a server can listen on it, else a port that the system selects."""
    try:
        return _listen(preferred)
    except (OSError, OverflowError):
        return _listen(0)


def responds(port: int, path: str) -> bool:
    """Whether `GET path` returns 200. Uses http.client, which ignores proxies from the environment."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _listen(port: int) -> int:
    """Listen as a server would, and return the port, which is free again."""
    # Not by socket.create_server, which leaves its socket open if `port` is too large.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((HOST, port))
        server.listen()
        bound: int = server.getsockname()[1]
        return bound
