"""`deploy/nginx.conf` and `deploy/Caddyfile` in real proxies, in front of the API and of an upstream that records.

The files are used as they are, apart from ports, socket paths, certificates and log files. The API's name leads to the
product on a Unix socket. The Hub's name leads to the recorder, which shows exactly what a proxy sends, and when.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from kataven.web.schema import MAX_BODY_BYTES
from tests.support.app_harness import AppHarness
from tests.support.certificates import authority
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.installed import require_program
from tests.support.waiting import wait_until

pytestmark = pytest.mark.programs

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
API, HUB = "api.example.com", "hub.example.com"
CLIENT = "127.0.0.2"
"""The address that the test's connections come from."""
FORGED = "203.0.113.9"
SECRET = "leaked-in-a-query"


class Recorder(socketserver.ThreadingUnixStreamServer):
    """An upstream that keeps the head of each request as soon as it arrives, and responds after the body."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.requests: list[str] = []
        super().__init__(str(path), _Recording)


class _Recording(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while line := self.rfile.readline():
            head += line
            if line == b"\r\n":
                break
        if not head:
            return
        cast(Recorder, self.server).requests.append(head.decode())
        length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
        self.rfile.read(int(length[1]) if length else 0)
        with contextlib.suppress(OSError):  # the proxy may have given up
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


@dataclass(frozen=True)
class Proxy:
    """A running proxy, and what its upstreams and its log received."""

    name: str
    http: int
    https: int
    recorder: Recorder = field(repr=False)
    log: Path
    upstream: Path
    """The API's log."""

    def connect(self, host: str) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the certificate is not what is tested here
        plain = socket.create_connection(("127.0.0.1", self.https), timeout=30, source_address=(CLIENT, 0))
        return context.wrap_socket(plain, server_hostname=host)

    def send(self, host: str, head: str, body: bytes = b"") -> str:
        """The response to one request; `head` has no final empty line."""
        with self.connect(host) as connection:
            text = f"{head}\r\nHost: {host}\r\nConnection: close\r\n"
            connection.sendall(
                f"{text}Content-Length: {len(body)}\r\n\r\n".encode() if body else f"{text}\r\n".encode()
            )
            with contextlib.suppress(OSError):  # a proxy may reject a body before it has read all of it
                connection.sendall(body)
            received = b""
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                while chunk := connection.recv(65_536):
                    received += chunk
        return received.decode()


@pytest.fixture(scope="module")
def folder(server_folder: Path) -> Path:
    made = server_folder / "proxies"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def api_socket(harness: AppHarness, folder: Path) -> Iterator[Path]:
    path = folder / "api.sock"
    environ = {**harness.environ, "BIND": f"unix:{path}", "KATAVEN_TRUSTED_PROXIES": "1"}
    environ["KATAVEN_METRICS_TOKEN"] = "a token of the metrics"
    with Gunicorn(environ, folder / "api.log", workers=1, unix=path):
        yield path


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, folder: Path, api_socket: Path) -> Iterator[Proxy]:
    program = request.param
    require_program(program, "PROXY_TESTS")
    place = folder / program
    place.mkdir()
    pair = authority(place / "authority").issue(API)
    shutil.copy(pair.certificate, place / "server.pem")
    shutil.copy(pair.key, place / "server.key")
    with Recorder(place / "hub.sock") as recorder:
        threading.Thread(target=recorder.serve_forever, daemon=True).start()
        started = Proxy(program, free_port(), free_port(), recorder, place / "access.log", folder / "api.log")
        configure = nginx if program == "nginx" else caddy
        command = configure(
            place, started, {"/run/kataven-api/http.sock": api_socket, "/run/kataven-hub/http.sock": place / "hub.sock"}
        )
        with (place / "output").open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env={"PATH": os.environ["PATH"], "HOME": str(place)}
            )
        try:
            wait_until(lambda: listens(process, started.https, place / "output"), 30, (place / "output").read_text)
            yield started
        finally:
            process.terminate()
            process.wait(20)
            recorder.shutdown()


def listens(process: subprocess.Popen[bytes], port: int, output: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the proxy ended: {output.read_text()[-2000:]}")
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def with_sockets(text: str, sockets: dict[str, Path]) -> str:
    for documented, real in sockets.items():
        assert documented in text
        text = text.replace(documented, str(real))
    return text


def nginx(place: Path, proxy: Proxy, sockets: dict[str, Path]) -> list[str]:
    text = with_sockets((DEPLOY / "nginx.conf").read_text(), sockets)
    text = re.sub(r"/etc/ssl/kataven/\w+\.", f"{place}/server.", text).replace(
        "/var/log/nginx/kataven.log", str(proxy.log)
    )
    text = text.replace("listen 80;", f"listen 127.0.0.1:{proxy.http};")
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{proxy.https} ssl;")
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # its workers must reach the sockets in the test's folder
    (place / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {place}/pid;\nerror_log {place}/error;\n"
        f"events {{}}\nhttp {{\n{temporary}{text}\n}}\n"
    )
    return ["nginx", "-c", str(place / "nginx.conf"), "-p", str(place)]


def caddy(place: Path, proxy: Proxy, sockets: dict[str, Path]) -> list[str]:
    text = with_sockets((DEPLOY / "Caddyfile").read_text(), sockets)
    version = subprocess.run(["caddy", "version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, re.findall(r"\d+", version)[:2])
    if (major, minor) < (2, 7):  # which has another name for it
        text = text.replace("request_buffers 1MiB", "buffer_requests\n\t\tmax_buffer_size 1MiB")
    ports = f"http_port {proxy.http}\n\thttps_port {proxy.https}\n"
    options = f"admin off\n\tskip_install_trust\n\tauto_https disable_certs\n\t{ports}"
    text = text.replace("{\n\tservers {", f"{{\n\t{options}\tservers {{", 1)
    text = text.replace("\timport kataven\n", f"\timport kataven\n\ttls {place}/server.pem {place}/server.key\n")
    text = text.replace("\tlog {\n", f"\tlog {{\n\t\toutput file {proxy.log}\n", 1)
    (place / "Caddyfile").write_text(text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(place / "Caddyfile")]


def json_of(response: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(response.partition("\r\n\r\n")[2])
    return found


def test_credentials_and_conditions_reach_the_api(proxy: Proxy, harness: AppHarness) -> None:
    bearer = f"Authorization: Bearer {harness.new_key('acme')}"
    accepted = proxy.send(API, f"GET /v1/me HTTP/1.1\r\n{bearer}")
    assert accepted.startswith("HTTP/1.1 200"), accepted
    assert "ratelimit:" in accepted.lower()
    other = proxy.send(API, f"GET /v1/me HTTP/1.1\r\n{bearer}\r\nX-Account-ID: globex")
    assert json_of(other)["code"] == "account_mismatch"
    settings = proxy.send(API, f"GET /v1/widget-settings HTTP/1.1\r\n{bearer}")
    etag = re.search(r"(?i)^etag: (.*)\r$", settings, re.MULTILINE)
    assert etag, settings
    same = proxy.send(API, f"GET /v1/widget-settings HTTP/1.1\r\n{bearer}\r\nIf-None-Match: {etag[1]}")
    assert same.startswith("HTTP/1.1 304")


def test_address_in_the_api_log_is_that_of_the_connection(proxy: Proxy) -> None:
    request_id = f"address-of-{proxy.name}"
    head = f"GET /v1/me HTTP/1.1\r\nX-Request-ID: {request_id}\r\nX-Forwarded-For: {FORGED}"
    assert json_of(proxy.send(API, head))["code"] == "missing_credential"
    lines = [json.loads(line) for line in proxy.upstream.read_text().splitlines() if request_id in line]
    assert [line["address"] for line in lines] == [CLIENT]


def test_upstream_receives_host_and_address_and_no_forged_scheme(proxy: Proxy) -> None:
    assert proxy.send(HUB, f"GET /sign-in?from={proxy.name} HTTP/1.1\r\nX-Forwarded-For: {FORGED}").endswith("ok")
    [seen] = [one for one in proxy.recorder.requests if f"from={proxy.name}" in one]
    fields = {name.lower(): value for name, value in re.findall(r"^([\w-]+): (.*)\r$", seen, re.MULTILINE)}
    assert fields["host"] == HUB
    assert fields["x-forwarded-for"].split(", ")[-1] == CLIENT


def test_body_reaches_the_upstream_only_when_it_is_complete(proxy: Proxy) -> None:
    proxy.recorder.requests.clear()
    with proxy.connect(HUB) as slow:
        slow.sendall(
            f"POST /slow HTTP/1.1\r\nHost: {HUB}\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhal".encode()
        )
        assert proxy.send(HUB, "GET /in-between HTTP/1.1").endswith("ok")
        assert [one.split()[1] for one in proxy.recorder.requests] == ["/in-between"]
        slow.sendall(b"ves")
        assert slow.recv(12).startswith(b"HTTP/1.1 200")
    assert [one.split()[1] for one in proxy.recorder.requests] == ["/in-between", "/slow"]


def test_proxy_accepts_bodies_up_to_the_limit_of_the_api(proxy: Proxy, harness: AppHarness) -> None:
    head = (
        f"POST /v1/agents HTTP/1.1\r\nAuthorization: Bearer {harness.new_key('acme')}\r\nContent-Type: application/json"
    )
    within = proxy.send(API, head, b'{"name": "' + b"x" * (MAX_BODY_BYTES - 12) + b'"}')
    assert json_of(within)["code"] == "invalid_request", "the API rejects the name, not the size"
    # The upstream of this name has no limit, so the proxy itself rejects the body.
    assert proxy.send(HUB, "POST /long HTTP/1.1", b"x" * (MAX_BODY_BYTES + 1)).startswith("HTTP/1.1 413")


def test_metrics_are_not_public_even_with_the_token(proxy: Proxy) -> None:
    response = proxy.send(API, "GET /metrics HTTP/1.1\r\nAuthorization: Bearer a token of the metrics")
    assert response.startswith("HTTP/1.1 404")
    assert "kataven_" not in response


def test_http_is_redirected_to_https(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.http), timeout=30) as plain:
        plain.sendall(f"GET /v1/me HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n".encode())
        response = plain.recv(4096).decode()
    assert re.match(r"HTTP/1.1 30[18]", response)
    assert re.search(rf"(?i)^location: https://{API}", response, re.MULTILINE)


def test_access_log_contains_no_query_and_no_credential(proxy: Proxy, harness: AppHarness) -> None:
    key = harness.new_key("acme")
    proxy.send(API, f"GET /v1/me?token={SECRET} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nCookie: session={SECRET}")
    wait_until(lambda: "/v1/me" in proxy.log.read_text(), 10)
    proxy.send(API, "GET /v1/after HTTP/1.1")
    wait_until(lambda: "/v1/after" in proxy.log.read_text(), 10)  # so the line before it is complete
    logged = proxy.log.read_text()
    assert SECRET not in logged
    assert key not in logged
