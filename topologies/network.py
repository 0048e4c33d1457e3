"""Two hosts on one machine: the second host has its own network namespace, and the link between both has a delay.

    netem               a veth pair; `tc qdisc … netem` delays each end by half of the round trip
    packet relay        two TUN devices; a process forwards IP packets and delays each by half of the round trip
    connection relay    no namespace; a process forwards TCP connections and delays their bytes

`open_link` uses the first one that works: netem needs root and a kernel with `sch_netem`, the packet relay needs root
and `/dev/net/tun`. Host A is the namespace of this process. A client of host B must be in the namespace of host B,
because it connects from loopback addresses: `inside` moves the calling thread there.

    python -m topologies.network [--link netem] [--round-trip 30]     opens a link, and prints its measured round trip
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.support.gunicorn import CHECKOUT, free_port
from tests.support.waiting import wait_until
from topologies.engine_process import EngineProcess
from topologies.packages import MissingPrograms, program

NETEM, PACKET_RELAY, CONNECTION_RELAY = "netem", "packet relay", "connection relay"
LINKS = (NETEM, PACKET_RELAY, CONNECTION_RELAY)
LINK_VARIABLE = "TOPOLOGIES_LINK"
"""The environment variable that selects a kind of link, to test the others."""
LOCALHOST = "127.0.0.1"
START_SECONDS = 60.0
PROBES = 20

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_namespaces: dict[int, str] = {}
"""The namespace of each port that does not belong to host A."""


class LinkUnavailable(Exception):
    """Raised if this machine does not support a kind of link."""


@dataclass(frozen=True)
class Link:
    """An open link. `namespace` is that of host B; None if it has none."""

    kind: str
    round_trip_milliseconds: int
    address: str
    """The address of host A, at which host B reaches its servers."""
    namespace: str | None

    @property
    def prefix(self) -> list[str]:
        """What runs a command on host B."""
        return [] if self.namespace is None else [str(program("ip")), "netns", "exec", self.namespace]

    def measured_round_trip(self, port: int) -> float:
        """Milliseconds from host B to a Redis at `port`: the median of `PING`s on one connection."""
        durations = []
        with inside(self.namespace), socket.create_connection((self.address, port), START_SECONDS) as connection:
            for _ in range(PROBES):
                started = time.perf_counter()
                connection.sendall(b"PING\r\n")
                assert connection.recv(64) == b"+PONG\r\n"
                durations.append((time.perf_counter() - started) * 1000)
        return median(durations)


@contextmanager
def inside(namespace: str | None) -> Iterator[None]:
    """Move the calling thread into a network namespace. Sockets that it opens remain there."""
    if namespace is None:
        yield
        return
    with Path("/proc/thread-self/ns/net").open("rb") as own, (_NAMESPACES / namespace).open("rb") as other:
        _setns(other.fileno())
        try:
            yield
        finally:
            _setns(own.fileno())


def place(port: int, namespace: str | None) -> None:
    """Record that a server at this loopback port is in `namespace`."""
    if namespace is not None:
        _namespaces[port] = namespace


def namespace_of(port: int) -> str | None:
    return _namespaces.get(port)


def spell(port: int) -> str:
    """A port and its namespace, for the command line of another process."""
    namespace = namespace_of(port)
    return str(port) if namespace is None else f"{port}@{namespace}"


def parse(text: str) -> int:
    """Read what `spell` wrote, and record the port's namespace in this process."""
    port, _, namespace = text.partition("@")
    place(int(port), namespace or None)
    return int(port)


def open_link(folder: Path, stack: ExitStack, milliseconds: int, kind: str | None = None) -> Link:
    """The best link that this machine supports, or the given kind. Raises LinkUnavailable if that is not supported."""
    for each in [kind] if kind else LINKS:
        trying = ExitStack()
        try:
            link = _open(each, folder, trying, milliseconds)
        except (LinkUnavailable, MissingPrograms, OSError):
            trying.close()
            if kind:
                raise
        else:
            stack.push(trying.pop_all())
            return link
    raise LinkUnavailable("no kind of link is supported")


def start_relay(
    folder: Path, stack: ExitStack, upstream: str, milliseconds: int, *, port: int, namespace: str | None = None
) -> None:
    """Relay TCP connections from a loopback port of `namespace` to `upstream`, a port of host A."""
    command: list[str | Path] = [Path(sys.executable), "-m", "topologies.engines.delay_relay", str(port), upstream]
    command += [str(milliseconds), *([namespace] if namespace else [])]
    relay = _start(command, folder, stack, f"relay-{port}")

    def accepts() -> bool:
        relay.require_running()
        with suppress(OSError), inside(namespace), socket.create_connection((LOCALHOST, port), 1):
            return True
        return False

    wait_until(accepts, START_SECONDS, relay.tail)


def relayed(folder: Path, stack: ExitStack, upstream: str, milliseconds: int) -> int:
    """A new port of host A that relays to `upstream` with a delay."""
    port = free_port()
    start_relay(folder, stack, upstream, milliseconds, port=port)
    return port


def _open(kind: str, folder: Path, stack: ExitStack, milliseconds: int) -> Link:
    if kind == CONNECTION_RELAY:
        return Link(kind, milliseconds, LOCALHOST, None)
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise LinkUnavailable("only root can create network namespaces")
    tag = f"{os.getpid() % 100_000:05d}{random.randrange(1000):03d}"  # noqa: S311
    namespace, near, far = f"kataven-{tag}", f"kta{tag}", f"ktb{tag}"
    subnet = f"198.18.{random.randrange(256)}"  # noqa: S311  reserved for benchmarks of networks (RFC 2544)
    _ip("netns", "add", namespace)
    stack.callback(_remove, "netns", "delete", namespace)
    if kind == NETEM:
        _ip("link", "add", near, "type", "veth", "peer", "name", far)
        stack.callback(_remove, "link", "delete", near)
        _ip("link", "set", far, "netns", namespace)
    else:
        command: list[str | Path] = [Path(sys.executable), "-m", "topologies.engines.packet_relay"]
        relay = _start([*command, near, far, str(milliseconds)], folder, stack, "packet-relay")
        wait_until(lambda: _both_exist(relay, near, far), START_SECONDS, relay.tail)
        _ip("link", "set", far, "netns", namespace)
    _ip("address", "add", f"{subnet}.1/30", "dev", near)
    _ip("link", "set", near, "up")
    with inside(namespace):
        _ip("address", "add", f"{subnet}.2/30", "dev", far)
        _ip("link", "set", far, "up")
        _ip("link", "set", "lo", "up")
    if kind == NETEM:
        delay = ["root", "netem", "delay", f"{milliseconds / 2:g}ms"]
        _run("tc", "qdisc", "add", "dev", near, *delay)
        with inside(namespace):
            _run("tc", "qdisc", "add", "dev", far, *delay)
    return Link(kind, milliseconds, f"{subnet}.1", namespace)


def _both_exist(relay: EngineProcess, *devices: str) -> bool:
    if not relay.is_running():
        raise LinkUnavailable(f"the packet relay has ended: {relay.tail()}")
    return all(Path("/sys/class/net", device).exists() for device in devices)


def _start(command: list[str | Path], folder: Path, stack: ExitStack, name: str) -> EngineProcess:
    process = EngineProcess(command, folder, name=name, environ={"PYTHONPATH": str(CHECKOUT)})
    process.start()
    stack.callback(process.stop)
    return process


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _remove(*arguments: str) -> None:
    subprocess.run([program("ip"), *arguments], capture_output=True)


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise LinkUnavailable(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")


def _setns(descriptor: int) -> None:
    # os.setns exists from Python 3.12. setns(2) moves the calling thread only.
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Pong(socketserver.StreamRequestHandler):
    """Replies to `PING` as Redis does."""

    def handle(self) -> None:
        while self.rfile.readline():
            self.wfile.write(b"+PONG\r\n")


def main() -> int:
    """Open a link and measure it."""
    parser = argparse.ArgumentParser(prog="python -m topologies.network")
    parser.add_argument("--link", choices=LINKS, help="the kind of link (default: the first that works)")
    parser.add_argument("--round-trip", type=int, default=30, metavar="MS")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            link = open_link(folder, stack, options.round_trip, options.link)
        except (LinkUnavailable, MissingPrograms, OSError) as error:
            print(f"not supported: {error}", file=sys.stderr)
            return 1
        pong = stack.enter_context(socketserver.ThreadingTCPServer((link.address, 0), _Pong))
        pong.daemon_threads = True
        threading.Thread(target=pong.serve_forever, daemon=True).start()
        stack.callback(pong.shutdown)
        port = pong.server_address[1]
        if link.kind == CONNECTION_RELAY:
            port = relayed(folder, stack, str(port), options.round_trip)
        print(f"{link.kind}: {link.measured_round_trip(port):.1f} ms, namespace {link.namespace}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
