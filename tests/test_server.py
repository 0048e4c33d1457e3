"""What only a real server shows: bytes that no client library sends, and what other processes can see."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.support.gunicorn import Gunicorn
from tests.support.house import House


@pytest.fixture(scope="module")
def server(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(house.environ, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def key(house: House) -> str:
    return house.new_key("acme")


def ask(
    server: Gunicorn, *headers: bytes, line: bytes = b"GET /v1/agents HTTP/1.1", body: bytes = b""
) -> tuple[int, bytes]:
    request = b"\r\n".join([line, b"Host: x", b"Connection: close", *headers, b"", body])
    answer = server.raw(request)
    return int(answer.split(b" ", 2)[1]), answer


def bearer(key: str) -> bytes:
    return f"Authorization: Bearer {key}".encode()


def test_a_good_key_is_served(server: Gunicorn, key: str) -> None:
    assert ask(server, bearer(key))[0] == 200


def test_two_authorization_headers_are_refused_by_name(server: Gunicorn, key: str) -> None:
    status, answer = ask(server, bearer(key), bearer(key))
    assert status == 400
    assert b'"malformed_token"' in answer
    assert b'"field":"Authorization"' in answer


def test_two_account_headers_are_refused_by_name(server: Gunicorn, key: str) -> None:
    status, answer = ask(server, bearer(key), b"X-Account-ID: acme", b"X-Account-ID: acme")
    assert status == 400
    assert b'"invalid_account"' in answer
    assert b'"field":"X-Account-ID"' in answer


@pytest.mark.parametrize("length", [8 * 1024 + 1, 60_000])
def test_an_overlong_token_gets_our_own_answer(server: Gunicorn, length: int) -> None:
    status, answer = ask(server, b"Authorization: Bearer " + b"x" * length)
    assert status == 400
    assert b'"malformed_token"' in answer
    assert b'"field":"Authorization"' in answer


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer \xff\xfe\xfd",
        b"Authorization: Bearer sk_live_acme_\xc3\xa4",
        b"X-Account-ID: \xf0\x9f\x92\xa9",
    ],
)
def test_bytes_that_are_no_text_are_a_4xx(server: Gunicorn, key: str, header: bytes) -> None:
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
def test_what_is_not_http_is_a_4xx_and_the_server_goes_on(
    server: Gunicorn, key: str, line: bytes, headers: list[bytes]
) -> None:
    assert 400 <= ask(server, *headers, line=line)[0] < 500
    assert ask(server, bearer(key))[0] == 200


@pytest.mark.parametrize("path", [b"/v1/agents/%ff%fe", b"/v1/agents/%00", b"/v1/agents/..%2f..%2fetc", b"/%c3%28"])
def test_paths_of_any_bytes_are_404(server: Gunicorn, key: str, path: bytes) -> None:
    status, answer = ask(server, bearer(key), line=b"GET " + path + b" HTTP/1.1")
    assert status == 404
    assert b'"not_found"' in answer


def test_a_chunked_body_over_the_limit_is_a_413(server: Gunicorn, key: str) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    headers = [bearer(key), b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    body = chunk * 17 + b"0\r\n\r\n"
    status, answer = ask(server, *headers, line=b"POST /v1/agents HTTP/1.1", body=body)
    assert status == 413, answer
    assert b'"payload_too_large"' in answer


def test_a_query_never_reaches_the_log(server: Gunicorn, key: str) -> None:
    stray = tokens.mint(TokenKind.API_KEY, "acme").text
    ask(server, bearer(key), line=f"GET /v1/agents?api_key={stray} HTTP/1.1".encode())
    assert stray not in server.log.read_text()
    assert key not in server.log.read_text()


def test_no_secret_is_in_the_process_list(server: Gunicorn, house: House, key: str) -> None:
    ask(server, bearer(key))
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "gunicorn" in listed
    record = house.services.directory.read("acme")
    assert record is not None
    # This house's own: other tests run at the same time, and have URLs among their arguments.
    urls = [house.environ["KATAVEN_DATABASE_URL"], record.tenant.url.render_as_string(hide_password=False)]
    for secret in [key, house.environ["KATAVEN_PEPPERS"].partition(":")[2], "Bearer ", *urls]:
        assert secret not in listed


def test_a_bad_environment_is_told_once_and_ends_the_server(house: House, tmp_path: Path) -> None:
    broken = {**house.environ, "KATAVEN_TRUSTED_PROXIES": "many", "KATAVEN_LEASE_SECONDS": "0"}
    log = tmp_path / "log"
    with pytest.raises(RuntimeError, match="gunicorn ended"), Gunicorn(broken, log):
        pass
    text = log.read_text()
    assert text.count("KATAVEN_TRUSTED_PROXIES:") == 1
    assert text.count("KATAVEN_LEASE_SECONDS:") == 1
    assert "Traceback" not in text
