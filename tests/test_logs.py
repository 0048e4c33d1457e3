"""What is written, and what never is."""

from __future__ import annotations

import errno
import io
import json
import logging
import subprocess
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kataven import logs

KEY = "sk_live_acme_" + "a" * 49
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
URL = "postgresql+psycopg2://kataven:hunter2@db.example/acme"


def written(message: str, *arguments: object, exc_info: bool = False, **extra: object) -> dict[str, object]:
    record = logging.getLogger("kataven.test").makeRecord(
        "kataven.test",
        logging.WARNING,
        "file.py",
        1,
        message,
        arguments,
        sys.exc_info() if exc_info else None,
        extra=extra,
    )
    line = logs.formatter().format(record)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_a_line_says_when_how_bad_where_and_what() -> None:
    line = written("%s of %s", 1, 2, account="acme", nothing=None)
    assert list(line)[:4] == ["at", "level", "logger", "message"]
    assert isinstance(line.pop("at"), float)
    assert line == {"level": "warning", "logger": "kataven.test", "message": "1 of 2", "account": "acme"}


def test_a_line_of_a_request_names_the_request_and_its_trace() -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1", trace_id="t-1"):
        line = written("while it runs")
    assert (line["request_id"], line["trace_id"]) == ("r-1", "t-1")


@pytest.mark.parametrize("secret", [KEY, JWT], ids=["key", "jwt"])
def test_no_secret_is_written_wherever_it_is(secret: str) -> None:
    try:
        raise ValueError(f"it was {secret}")
    except ValueError:
        line = json.dumps(written("saw %s", secret, exc_info=True, extra_field=secret, nested={"deep": [secret]}))
    assert secret not in line
    assert line.count(logs.REDACTED) == 4
    assert "ValueError" in line


def test_no_password_of_a_url_is_written() -> None:
    line = json.dumps(written("connecting to %s", URL))
    assert "hunter2" not in line
    assert "db.example" in line


def test_a_line_of_every_request_is_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        logs.every_request("kataven.access").info("request", status=200, account=None, method=KEY)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert list(line)[:4] == ["at", "level", "logger", "message"]
    assert isinstance(line.pop("at"), float)
    assert line == {
        "level": "info",
        "logger": "kataven.access",
        "message": "request",
        "request_id": "r-1",
        "status": 200,
        "method": logs.REDACTED,
    }


@pytest.mark.parametrize("odd", ["\ud800", 1 << 70], ids=["half-a-character", "large-number"])
def test_a_line_holds_whatever_it_is_given(odd: object, capsys: pytest.CaptureFixture[str]) -> None:
    logs.every_request("kataven.access").info("request", principal=odd, method=KEY)
    line = json.loads(capsys.readouterr().err)
    assert line["principal"] == odd
    assert line["method"] == logs.REDACTED


TICKET = "a1B2" * 10 + "xyz" + "123456"
PARTS = {
    "cut-key": "sk_live_acme_" + "a" * 20,
    "key-with-more": f"{KEY}_and-more",
    "shouted-key": KEY.upper(),
    "widget-key": "pk_live_acme_" + "b" * 30,
    "user-token": f"ut_{TICKET}",
    "cut-user-token": f"ut_{TICKET[:20]}",
    "refresh-token": f"rt_{TICKET[:43]}_{TICKET}",
    "cut-refresh-token": f"rt_{TICKET[:43]}_{TICKET[:10]}",
    "jwt-without-signature": JWT.rpartition(".")[0],
    "cut-jwt": JWT[:30],
    "shouted-jwt": JWT.upper(),
}


@pytest.mark.parametrize("secret", PARTS.values(), ids=PARTS)
def test_no_part_of_a_secret_is_written(secret: str) -> None:
    for before, behind in (("saw ", " here"), ("'Bearer ", "'"), ("refresh_token=", "&x")):
        assert logs.redact(before + secret + behind) == before + logs.REDACTED + behind


@pytest.mark.parametrize(
    "text", ["output_of_the_first_migration", "start_of_a_long_description", "sk_live_", "eyJ", "pk_live_ and so on"]
)
def test_words_are_left_as_they_are(text: str) -> None:
    assert logs.redact(text) == text


PROCESS = """
import gc, logging, sys, threading, warnings
from kataven import logs
logs.take_over()
logs.take_over()
key = "sk_live_acme_" + "a" * 49
logging.getLogger("some.library").warning("it saw %s", key)
logging.getLogger("some.library").info("not of interest")
warnings.warn(f"about {key}")
def fail(): raise ValueError(f"in a thread, {key}")
thread = threading.Thread(target=fail, name="worker-1")
thread.start(); thread.join()
class Falls:
    def __del__(self): raise ValueError(f"in a finalizer, {key}")
Falls(); gc.collect()
raise SystemError(f"in the main thread, {key}")
"""


def test_everything_that_a_service_says_is_json_without_secrets() -> None:
    ended = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("some.library", "warning"),
        ("py.warnings", "warning"),
        ("kataven.logs", "critical"),
        ("kataven.logs", "error"),
        ("kataven.logs", "critical"),
    ]
    assert KEY not in ended.stderr
    assert all(logs.REDACTED in json.dumps(line) for line in lines)
    assert lines[2]["thread_name"] == "worker-1"


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("broken", [Full(), closed()], ids=["full", "closed"])
def test_a_line_that_cannot_be_written_hurts_nobody(broken: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", broken)
    logs.every_request("kataven.access").info("request")


@given(st.text("sk_live_pkacme123eyJ.:/@ab\n-", max_size=120) | st.sampled_from([KEY, JWT, URL]))
def test_nothing_is_overlooked_for_speed(text: str) -> None:
    everything = f"{text} {KEY}"
    assert logs.redact(everything).removesuffix(logs.REDACTED) == f"{logs.redact(text)} "
