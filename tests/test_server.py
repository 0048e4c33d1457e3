"""Behaviour that only a real server shows: bytes that no client library sends, and what other processes can see."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.web.server.timeouts import REASONS
from kataven.widget import opaque_tokens
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until
from tests.web.server.running import open_connections, read_answer


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def key(harness: AppHarness) -> str:
    return harness.new_key("acme")


def ask(
    server: Gunicorn, *headers: bytes, line: bytes = b"GET /v1/agents HTTP/1.1", body: bytes = b""
) -> tuple[int, bytes]:
    request = b"\r\n".join([line, b"Host: x", b"Connection: close", *headers, b"", body])
    response = server.raw(request)
    return int(response.split(b" ", 2)[1]), response


def bearer(key: str) -> bytes:
    return f"Authorization: Bearer {key}".encode()


def test_valid_key_is_accepted(server: Gunicorn, key: str) -> None:
    assert ask(server, bearer(key))[0] == 200


def test_two_authorization_headers_are_rejected_by_name(server: Gunicorn, key: str) -> None:
    status, response = ask(server, bearer(key), bearer(key))
    assert status == 400
    assert b'"malformed_token"' in response
    assert b'"field":"Authorization"' in response


def test_two_account_headers_are_rejected_by_name(server: Gunicorn, key: str) -> None:
    status, response = ask(server, bearer(key), b"X-Account-ID: acme", b"X-Account-ID: acme")
    assert status == 400
    assert b'"invalid_account"' in response
    assert b'"field":"X-Account-ID"' in response


@pytest.mark.parametrize("length", [8 * 1024 + 1, 60_000])
def test_overlong_token_returns_a_problem(server: Gunicorn, length: int) -> None:
    status, response = ask(server, b"Authorization: Bearer " + b"x" * length)
    assert status == 400
    assert b'"malformed_token"' in response
    assert b'"field":"Authorization"' in response


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer \xff\xfe\xfd",
        b"Authorization: Bearer sk_live_acme_\xc3\xa4",
        b"X-Account-ID: \xf0\x9f\x92\xa9",
    ],
)
def test_non_text_bytes_return_4xx(server: Gunicorn, key: str, header: bytes) -> None:
    headers = [header] if header.startswith(b"Auth") else [bearer(key), header]
    assert ask(server, *headers)[0] == 400


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (b"GET /v1/agents HTTP/1.1", [b"Authorization: Bearer a\x00b"]),
        (b"GET /v1/agents HTTP/1.1", [b"Authorization : Bearer x"]),
        (b"GET /v1/agents HTTP/1.1", [b"Content-Length: -1"]),
        (b"POST /v1/agents HTTP/1.1", [b"Content-Length: 3", b"Transfer-Encoding: chunked"]),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", []),
        (b"GET /v1/agents HTTP/9.9", []),
    ],
)
def test_invalid_http_returns_4xx_and_the_server_continues(
    server: Gunicorn, key: str, line: bytes, headers: list[bytes]
) -> None:
    assert 400 <= ask(server, *headers, line=line)[0] < 500
    assert ask(server, bearer(key))[0] == 200


@pytest.mark.parametrize("path", [b"/v1/agents/%ff%fe", b"/v1/agents/%00", b"/v1/agents/..%2f..%2fetc", b"/%c3%28"])
def test_path_of_arbitrary_bytes_returns_404(server: Gunicorn, key: str, path: bytes) -> None:
    status, response = ask(server, bearer(key), line=b"GET " + path + b" HTTP/1.1")
    assert status == 404
    assert b'"not_found"' in response


def test_chunked_body_over_the_limit_returns_413(server: Gunicorn, key: str) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    headers = [bearer(key), b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    body = chunk * 17 + b"0\r\n\r\n"
    status, response = ask(server, *headers, line=b"POST /v1/agents HTTP/1.1", body=body)
    assert status == 413, response
    assert b'"payload_too_large"' in response


def test_query_string_is_never_logged(server: Gunicorn, key: str) -> None:
    stray = tokens.generate(TokenKind.API_KEY, "acme").text
    ask(server, bearer(key), line=f"GET /v1/agents?api_key={stray} HTTP/1.1".encode())
    assert stray not in server.log.read_text()
    assert key not in server.log.read_text()


KEY = tokens.generate(TokenKind.API_KEY, "acme").text
REFRESH_TOKEN = opaque_tokens.new_refresh_token(opaque_tokens.new_secret())
JWT = f"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOi{opaque_tokens.new_secret()}.{opaque_tokens.new_secret()}"
SECRETS = {
    "key": KEY,
    "widget-key": tokens.generate(TokenKind.WIDGET_KEY, "acme").text,
    "cut-key": KEY[:35],
    "longer-key": f"{KEY}xyz",
    "user-token": opaque_tokens.new_user_token(),
    "refresh-token": REFRESH_TOKEN,
    "cut-refresh-token": REFRESH_TOKEN[:60],
    "jwt": JWT,
    "cut-jwt": JWT[:50],
}
"""Each is random except for its last characters, and unique to this test."""
CHUNKED = (
    b"POST /v1/widget/auth/guest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FORMS = [
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: x\r\n%s: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n%s?: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n%s : x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n: %s\r\n\r\n",
    b"%s / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"%s\r\n\r\n",
    b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%s\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //[%s HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / %s\r\nHost: x\r\n\r\n",
    b"GET / HTTP/%s\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 9000 + b"%s HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + b"a" * 66_000 + b"%s\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"Authorization: Bearer %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %s\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %s\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nExpect: %s\r\n\r\n",
    b"GET /v1/agents/%s HTTP/1.1\r\nHost: x\r\n\r\n",
    CHUNKED + b"%s\r\n",
    CHUNKED + b"0\r\n%s\r\n\r\n",
]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_secret_in_invalid_http_is_never_repeated(server: Gunicorn, form: bytes, secret: str) -> None:
    request = form.replace(b"\r\nHost: ", b"\r\nConnection: close\r\nHost: ").replace(b"%s", secret.encode())
    response = server.raw(request).decode("latin-1")
    assert re.match(r"HTTP/1\.1 (4\d\d|501) ", response), response
    assert "Content-Type: application/problem+json" in response
    assert json.loads(response.partition("\r\n\r\n")[2])["code"]
    written = (response + server.log.read_text()).lower()
    assert secret[-12:].lower() not in written


def test_every_log_line_is_json(server: Gunicorn) -> None:
    ask(server, b"Authorization Bearer x")
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"gunicorn.error", "kataven.access", "kataven.server"} <= {line["logger"] for line in lines}
    assert all(list(line)[:4] == ["at", "level", "logger", "message"] for line in lines)


BROKEN_BODIES = [
    b"0x0\r\n\r\n",
    b"+0\r\n\r\n",
    b"-1\r\n\r\n",
    b"\r\n\r\n",
    b"g\r\n\r\n",
    b"5;\r\nabcde\r\n0\r\n\r\n",
    b'5;a="\r\nabcde\r\n0\r\n\r\n',
    b"5\r\nabcdeX\r\n0\r\n\r\n",
    b"5\r\nabcdefg\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    b"0\r\nno colon\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nX: \x00\r\n\r\n",
    b"0\r\nX: y\n\r\n\r\n",
    b"5\r\nabc",
    b"5\r\nabcde\r\n",
    b"5\r\nabcde\r\n0\r\n",
    b"",
    b"10000\r\n" + b"x" * 0x10000 + b"y",
]


def half_closed(server: Gunicorn, request: bytes) -> bytes:
    """The response to a client that sends nothing more and shuts down its sending side."""
    with server.connect() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("body", BROKEN_BODIES, ids=range(len(BROKEN_BODIES)))
def test_malformed_chunked_body_returns_400_and_logs_one_line(server: Gunicorn, key: str, body: bytes) -> None:
    before = len(server.log.read_text())
    head = b"\r\n".join(
        [
            b"POST /v1/agents HTTP/1.1",
            b"Host: x",
            bearer(key),
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        ]
    )
    response = half_closed(server, head + b"\r\n\r\n" + body)
    assert response.startswith(b"HTTP/1.1 400 "), response
    assert b"\r\nConnection: close\r\n" in response
    assert b'"malformed_request"' in response
    lines = server.log.read_text()[before:].splitlines()
    assert len(lines) == 2, "its own, and the request's"
    assert all(len(line) < 500 and "Traceback" not in line for line in lines)


def test_truncated_body_returns_400(server: Gunicorn, key: str) -> None:
    head = [b"POST /v1/agents HTTP/1.1", b"Host: x", bearer(key), b"Content-Type: application/json"]
    for length in (10, 100_000):
        response = half_closed(server, b"\r\n".join([*head, b"Content-Length: %d" % length, b"", b'{"a"']))
        assert response.startswith(b"HTTP/1.1 400 "), response
        assert b"\r\nConnection: close\r\n" in response
        assert b'"malformed_request"' in response


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [20_000, 100 * 1024])
@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (b"POST /v1/agents HTTP/1.1", [], 401),
        (b"POST /v1/nothing HTTP/1.1", [], 404),
        (b"POST /v1/me HTTP/1.1", [], 405),
        (b"POST /v1/agents HTTP/1.1", [b"with-key", b"Content-Type: text/plain"], 415),
    ],
    ids=["401", "404", "405", "415"],
)
def test_response_before_the_body_has_a_correct_connection_header(
    server: Gunicorn, key: str, line: bytes, headers: list[bytes], status: int, size: int, framing: str
) -> None:
    headers = [bearer(key) if header == b"with-key" else header for header in headers]
    body = b"x" * size
    if framing == "length":
        framed = [b"Content-Length: %d" % size, b"", body]
    else:
        framed = [b"Transfer-Encoding: chunked", b"", b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)]
    request = b"\r\n".join([line, b"Host: x", *headers, *framed])
    with server.connect() as connection:
        connection.sendall(request)
        found, fields, _ = read_answer(connection)
        assert found == status
        if fields["connection"] == "close":
            assert size > 64 * 1024
            assert connection.recv(1) == b""
        else:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection)[0] == 200


def test_connections_rejected_by_the_server_are_counted_from_startup(server: Gunicorn) -> None:
    with server.client() as client:
        text = client.get("/metrics").text
        for reason in REASONS:
            assert f'kataven_connections_refused_total{{reason="{reason}"}}' in text
        count = re.compile(r'kataven_connections_refused_total\{reason="malformed"\} (\S+)')
        ask(server, b"Authorization Bearer x")
        after = client.get("/metrics").text
    before_count, after_count = count.search(text), count.search(after)
    assert before_count is not None
    assert after_count is not None
    assert float(after_count[1]) > float(before_count[1])


POST_AGENT = b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SLOW = {
    "head": b"GET /v1/agents HTTP/1.1\r\nHost: x\r\nX-Long: a",
    "body": POST_AGENT + b"Content-Length: 900\r\n\r\n{",
    "large-body": POST_AGENT + b"Content-Length: 90000\r\n\r\n{",
}


@pytest.mark.parametrize("with_key", [False, True], ids=["unauthenticated", "key"])
@pytest.mark.parametrize("first_bytes", SLOW.values(), ids=SLOW)
def test_many_slow_clients_do_not_delay_others(server: Gunicorn, key: str, first_bytes: bytes, with_key: bool) -> None:
    if with_key:
        first_bytes = first_bytes.replace(b"Host: x", b"Host: x\r\n" + bearer(key))
    with open_connections(server, 200, first_bytes):
        assert ask(server, line=b"GET /healthz HTTP/1.1")[0] == 200
        assert ask(server, bearer(key))[0] in {200, 429}  # the account's own requests under way may fill its limit


def test_stacks_of_a_crashed_worker_are_logged(server: Gunicorn) -> None:
    os.kill(server.worker_pids()[0], signal.SIGSEGV)
    wait_until(lambda: '"a worker crashed"' in server.log.read_text(), 30, server.log.read_text)
    for line in server.log.read_text().splitlines():
        json.loads(line)


def unix_request(path: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(path)
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_headers_of_a_unix_socket_client_are_not_trusted(harness: AppHarness, server_folder: Path) -> None:
    path = server_folder / "front.sock"
    environ = {**harness.environ, "BIND": f"unix:{path}", "KATAVEN_TRUSTED_PROXIES": "1"}
    asked = b"GET /hub/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with Gunicorn(environ, server_folder / "unix-log", unix=path):
        assert unix_request(str(path), asked + b"\r\n").startswith(b"HTTP/1.1 404")
        for named in (b"SCRIPT_NAME: /hub", b"Script-Name: /hub", b"PATH_INFO: /healthz"):
            assert unix_request(str(path), asked + named + b"\r\n\r\n").startswith(b"HTTP/1.1 404")
            assert unix_request(str(path), plain + named + b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_unix_socket_without_a_proxy_is_rejected_at_startup(harness: AppHarness, server_folder: Path) -> None:
    path, log = server_folder / "unproxied.sock", server_folder / "unproxied-log"
    environ = {**harness.environ, "BIND": f"unix:{path}", "KATAVEN_TRUSTED_PROXIES": "0"}
    with pytest.raises(RuntimeError, match="gunicorn ended"), Gunicorn(environ, log, unix=path):
        pass
    text = log.read_text()
    assert text.count("KATAVEN_TRUSTED_PROXIES: is 0") == 1
    assert "Traceback" not in text
    assert not path.exists()


def test_process_list_contains_no_secret(server: Gunicorn, harness: AppHarness, key: str) -> None:
    ask(server, bearer(key))
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "gunicorn" in listed
    record = harness.services.directory.read("acme")
    assert record is not None
    # This harness's URLs: other tests run at the same time, and have URLs among their arguments.
    urls = [harness.environ["KATAVEN_DATABASE_URL"], record.tenant.url.render_as_string(hide_password=False)]
    for secret in [key, harness.environ["KATAVEN_PEPPERS"].partition(":")[2], "Bearer ", *urls]:
        assert secret not in listed


def test_invalid_environment_is_reported_once_and_stops_the_server(harness: AppHarness, tmp_path: Path) -> None:
    broken = {**harness.environ, "KATAVEN_TRUSTED_PROXIES": "many", "KATAVEN_LEASE_SECONDS": "0"}
    log = tmp_path / "log"
    with pytest.raises(RuntimeError, match="gunicorn ended"), Gunicorn(broken, log):
        pass
    text = log.read_text()
    assert text.count("KATAVEN_TRUSTED_PROXIES:") == 1
    assert text.count("KATAVEN_LEASE_SECONDS:") == 1
    assert "Traceback" not in text
