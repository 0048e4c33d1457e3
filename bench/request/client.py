"""A client that costs little: keep-alive sockets, the same bytes again and again."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlsplit


class Asker:
    """One connection that sends one request over and over."""

    def __init__(self, url: str, path: str, key: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()

    def ask(self) -> int:
        """The status of one answer, read to its end."""
        self._socket.sendall(self._request)
        data = self._socket.recv(65_536)
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        left = length - len(body)
        while left > 0:
            left -= len(self._socket.recv(65_536))
        return int(data[9:12])

    def close(self) -> None:
        self._socket.close()


def requests_per_second(askers: list[Asker], seconds: float) -> float:
    """All of them at once, for so long. Raises RuntimeError for an answer that is not 200."""
    done, wrong = [0] * len(askers), []
    until = time.perf_counter() + seconds

    def go_on(number: int, asker: Asker) -> None:
        while time.perf_counter() < until:
            status = asker.ask()
            if status != 200:
                wrong.append(status)
                return
            done[number] += 1

    began = time.perf_counter()
    threads = [threading.Thread(target=go_on, args=pair) for pair in enumerate(askers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise RuntimeError(f"answered {wrong[0]}")
    return sum(done) / (time.perf_counter() - began)
