"""A client with little overhead: keep-alive sockets that send the same bytes repeatedly."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlsplit


class Connection:
    """One connection that sends the same request repeatedly."""

    def __init__(self, url: str, path: str, key: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bytes = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()

    def request(self) -> int:
        """Send the request and read the complete response. Returns its status. Raises OSError if that fails."""
        self._socket.sendall(self._bytes)
        data = self._receive()
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        left = length - len(body)
        while left > 0:
            left -= len(self._receive())
        return int(data[9:12])

    def _receive(self) -> bytes:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


def requests_per_second(connections: list[Connection], seconds: float) -> float:
    """Use all connections concurrently for `seconds`. Raises RuntimeError if a response's status is not 200."""
    done, wrong = [0] * len(connections), []
    until = time.perf_counter() + seconds

    def send_repeatedly(number: int, connection: Connection) -> None:
        while time.perf_counter() < until:
            status = connection.request()
            if status != 200:
                wrong.append(status)
                return
            done[number] += 1

    started_at = time.perf_counter()
    threads = [threading.Thread(target=send_repeatedly, args=pair) for pair in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise RuntimeError(f"a response had the status {wrong[0]}")
    return sum(done) / (time.perf_counter() - started_at)
