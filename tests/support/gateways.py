"""Runs the gateways of `deploy/gateways/` with those very files, in which only addresses and ports are replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import httpx2

from tests.support.gunicorn import CHECKOUT, free_port
from tests.support.installed import require_program
from tests.support.waiting import wait_until

RECIPES = CHECKOUT / "deploy" / "gateways"
OWN_PROGRAMS = CHECKOUT / "tools" / "gateways" / "venv" / "bin"
"""Where `make gateways` installs the gateways that Debian does not have."""
START_SECONDS = 30.0
LISTEN, KATAVEN, BACKEND = "8080", "127.0.0.1:8000", "127.0.0.1:9000"
"""What the files in `deploy/gateways/` contain."""


def program(name: str) -> str:
    """The path of a gateway's program."""
    hint = "see docs/development.md, Gateways"
    return require_program(name, "GATEWAY_TESTS", folder=str(OWN_PROGRAMS), hint=hint)


@dataclass(frozen=True)
class Received:
    """A request that reached the backend."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name, as a framework would read them: `_` is `-`."""
    body: bytes


class Backend:
    """The API behind the gateways. It records each request, and responds with 200, or 500 at `/broken`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet per response: two would wait for the peer's delayed acknowledgement

            def respond(self) -> None:
                headers: dict[str, str] = {}
                for name, value in self.headers.items():
                    key = name.lower().replace("_", "-")
                    headers[key] = f"{headers[key]},{value}" if key in headers else value
                if headers.get("transfer-encoding") == "chunked":
                    body = b"".join(self._chunks())
                else:
                    body = self.rfile.read(int(headers.get("content-length", "0")))
                received.append(Received(self.command, self.path, headers, body))
                text = b"from the backend"
                self.send_response(500 if self.path == "/broken" else 200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            def _chunks(self) -> Iterator[bytes]:
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = respond  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Switch:
    """A TCP relay to Kataven that can be turned off: connections are then refused, as if no worker ran."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.on()
        return self

    def __exit__(self, *_: object) -> None:
        self.off()

    def on(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._run(self._accept, self._listener)

    def off(self) -> None:
        """Stop listening, and close every connection."""
        assert self._listener is not None
        for one in (self._listener, *list(self._sockets)):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()
        self._threads.clear()
        self._sockets.clear()

    @contextlib.contextmanager
    def turned_off(self) -> Iterator[None]:
        self.off()
        try:
            yield
        finally:
            self.on()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._sockets |= {near, far}
                self._run(self._pump, near, far)
                self._run(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()


@dataclass
class Gateway:
    """A running gateway. `prepare` writes its files and returns its command line."""

    name: str
    folder: Path
    kataven: str
    backend: str
    port: int = field(default_factory=free_port)
    ready_status: ClassVar[int] = 401
    """The status of a request without a credential, once the gateway is ready."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def __enter__(self) -> Self:
        command = _COMMANDS[self.name](self)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, env=self._environ()
            )
        try:
            wait_until(self._listens, START_SECONDS, lambda: self.log.read_text()[-2000:])
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def recipe(self, file: str, *replacements: tuple[str, str]) -> Path:
        """The file of `deploy/gateways/`, with the addresses of this test. Each must occur in the file."""
        text = (RECIPES / file).read_text()
        for old, new in replacements:
            assert old in text, f"{file} does not contain {old}"
            text = text.replace(old, new)
        path = self.folder / file
        path.write_text(text)
        return path

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.log.read_text()[-3000:]}")
        # Some listen before they have read all of their configuration.
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(self.url, trust_env=False).status_code == self.ready_status
        return False

    def _stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}


def _nginx(gateway: Gateway) -> list[str]:
    recipe = gateway.recipe(
        "nginx.conf",
        (f"listen {LISTEN};", f"listen 127.0.0.1:{gateway.port};"),
        (KATAVEN, gateway.kataven),
        (BACKEND, gateway.backend),
    )
    temporary = " ".join(
        f"{kind}_temp_path {gateway.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = gateway.folder / "whole.conf"
    whole.write_text(
        f"daemon off;\nmaster_process off;\npid {gateway.folder}/pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off; client_max_body_size 16m; {temporary}\ninclude {recipe};\n}}\n"
    )
    return [program("nginx"), "-c", str(whole), "-p", str(gateway.folder), "-e", "stderr"]


def _caddy(gateway: Gateway) -> list[str]:
    recipe = gateway.recipe(
        "Caddyfile", (f":{LISTEN} {{", f":{gateway.port} {{"), (KATAVEN, gateway.kataven), (BACKEND, gateway.backend)
    )
    recipe.write_text("{\n\tadmin off\n}\n" + recipe.read_text())
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(recipe)]


def _haproxy(gateway: Gateway) -> list[str]:
    lua = gateway.recipe("kataven_verify.lua")
    recipe = gateway.recipe(
        "haproxy.cfg",
        ("/etc/haproxy/kataven_verify.lua", str(lua)),
        (f"bind :{LISTEN}", f"bind 127.0.0.1:{gateway.port}"),
        (KATAVEN, gateway.kataven),
        (BACKEND, gateway.backend),
    )
    return [program("haproxy"), "-db", "-f", str(recipe)]


def _traefik(gateway: Gateway) -> list[str]:
    dynamic = gateway.recipe("traefik-kataven.yml", (KATAVEN, gateway.kataven), (BACKEND, gateway.backend))
    static = gateway.recipe(
        "traefik.yml",
        (f"address: :{LISTEN}", f"address: 127.0.0.1:{gateway.port}"),
        ("/etc/traefik/traefik-kataven.yml", str(dynamic)),
    )
    return [program("traefik"), f"--configfile={static}"]


def _envoy(gateway: Gateway) -> list[str]:
    recipe = gateway.recipe(
        "envoy.yaml",
        (f"address: 0.0.0.0, port_value: {LISTEN}", f"address: 127.0.0.1, port_value: {gateway.port}"),
        (_envoy_address(KATAVEN), _envoy_address(gateway.kataven)),
        (_envoy_address(BACKEND), _envoy_address(gateway.backend)),
    )
    return [program("envoy"), "-c", str(recipe), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]


def _envoy_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"address: {host}, port_value: {port}"


_COMMANDS: Mapping[str, Callable[[Gateway], list[str]]] = {
    "nginx": _nginx,
    "caddy": _caddy,
    "haproxy": _haproxy,
    "traefik": _traefik,
    "envoy": _envoy,
}
NAMES = tuple(_COMMANDS)
