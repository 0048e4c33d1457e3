"""A link between two TUN devices that delays each IP packet, for a kernel without netem.

`python -m topologies.engines.packet_relay DEVICE DEVICE ROUND_TRIP_MS`. Creates both devices; they exist until the
process ends, even if they are moved to other network namespaces. Packets keep their order and their distance in time,
as with netem without options.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import struct
import sys
import time
from collections import deque
from contextlib import suppress

_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
PACKET = 65_536


def main(devices: tuple[str, str], one_way_seconds: float) -> None:
    """Forward packets until the process ends."""
    first, second = map(_open, devices)
    peers = {first: second, second: first}
    selector = selectors.DefaultSelector()
    for device in peers:
        selector.register(device, selectors.EVENT_READ)
    waiting: deque[tuple[float, int, bytes]] = deque()
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(timeout):
            _receive(key.fd, peers[key.fd], waiting, one_way_seconds)
        while waiting and waiting[0][0] <= time.monotonic():
            _, target, packet = waiting.popleft()
            with suppress(OSError):  # the device is not up yet, or its queue is full: packets may be lost
                os.write(target, packet)


def _receive(source: int, target: int, waiting: deque[tuple[float, int, bytes]], delay: float) -> None:
    """Read all packets that have arrived."""
    with suppress(BlockingIOError):
        while True:
            packet = os.read(source, PACKET)
            waiting.append((time.monotonic() + delay, target, packet))


def _open(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


if __name__ == "__main__":
    main((sys.argv[1], sys.argv[2]), float(sys.argv[3]) / 2_000)
