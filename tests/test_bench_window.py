"""The tool that measures revocation windows: what it reports must be what the API did."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench import window
from bench.window import CannotMeasure, Sample, Window, window_of

ACCEPTED = frozenset({200})


def test_window_ends_with_the_start_of_the_last_accepted_request() -> None:
    samples = [Sample(0.5, 0.6, 200), Sample(2.25, 2.3, 200), Sample(2.5, 9.0, 200), Sample(2.6, 2.7, 401)]
    assert window_of(samples, 1.0, 2.0, ACCEPTED) == Window(1.0, 0.5, 1.5, 2, False, (401,))


def test_request_that_started_before_the_confirmation_is_not_late() -> None:
    samples = [Sample(1.9, 3.0, 200), Sample(2.1, 2.2, 403)]
    assert window_of(samples, 1.0, 2.0, ACCEPTED) == Window(1.0, 0.0, pytest.approx(0.9), 0, False, (403,))


def test_window_that_is_still_open_at_the_end_is_reported() -> None:
    found = window_of([Sample(2.1, 2.2, 401), Sample(2.3, 2.4, 200)], 1.0, 2.0, ACCEPTED)
    assert (found.late, found.open_at_end) == (1, True)


def test_round_without_a_request_after_the_confirmation_is_no_measurement() -> None:
    with pytest.raises(CannotMeasure, match="longer --watch"):
        window_of([Sample(1.5, 1.6, 200)], 1.0, 2.0, ACCEPTED)


class KeyApi:
    """A small API with keys. `forgetful`: it never refuses a key that it has accepted."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.seen: set[str] = set()
        self.forgetful = False
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                key = self.headers.get("Authorization", "")
                api.seen.add(key)
                self._answer(401 if key in api.revoked and not api.forgetful else 200)

            def do_DELETE(self) -> None:
                api.revoked.add(f"Bearer {self.path[1:]}")
                self._answer(204 if self.headers.get("X-Owner") == "yes" else 403)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> KeyApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def api() -> Iterator[KeyApi]:
    with KeyApi() as api:
        yield api


Measure = Callable[..., int]


@pytest.fixture
def measure(api: KeyApi) -> Measure:
    def run(*more: str, owner: str = "yes") -> int:
        return window.main(
            [
                *("--create", "echo key-$$ id-1", "--request", api.url, "--header", "Authorization: Bearer {key}"),
                *("--revoke", f"{api.url}/{{key}}", "--revoke-header", f"X-Owner: {owner}"),
                *("--rounds", "2", "--threads", "3", "--watch", "0.2", *more),
            ]
        )

    return run


def test_api_that_refuses_at_once_has_no_late_accept(measure: Measure, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure() == 0
    assert "2 rounds, 0 late accepts" in capsys.readouterr().out


def test_api_that_keeps_accepting_is_found_out(
    api: KeyApi, measure: Measure, capsys: pytest.CaptureFixture[str]
) -> None:
    api.forgetful = True
    assert measure("--json") == 1
    rounds = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["late"] > 0, one["open_at_end"]) for one in rounds] == [(True, True)] * 2


def test_revocation_that_is_refused_is_no_measurement(measure: Measure, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(owner="no") == 2
    assert "the revocation returned 403" in capsys.readouterr().err


def test_revocation_without_a_response_is_no_measurement(measure: Measure, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/{{key}}"
    assert measure("--revoke", url) == 2
    assert "the revocation received no response (ConnectError)" in capsys.readouterr().err


def test_command_receives_the_credential_in_its_environment(
    api: KeyApi, measure: Measure, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure("--revoke", 'test "$ID" = id-1 && echo no server of $KEY >&2 && exit 3') == 2
    printed = capsys.readouterr().err
    assert "--revoke failed: no server of $KEY" in printed
    assert len(api.seen) == 1
