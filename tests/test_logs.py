"""The format of log lines, and the secrets that they never contain."""

from __future__ import annotations

import errno
import io
import json
import logging
import subprocess
import sys

import pytest
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


def test_a_line_contains_time_level_logger_and_message() -> None:
    line = written("%s of %s", 1, 2, account="acme", nothing=None)
    assert list(line)[:4] == ["at", "level", "logger", "message"]
    assert isinstance(line.pop("at"), float)
    assert line == {"level": "warning", "logger": "kataven.test", "message": "1 of 2", "account": "acme"}


def test_a_line_of_a_request_contains_its_request_id_and_trace_id() -> None:
    logs.set_ids(request_id="r-1", trace_id="t-1")
    line = written("while it runs")
    logs.set_ids()
    assert (line["request_id"], line["trace_id"]) == ("r-1", "t-1")


@pytest.mark.parametrize("secret", [KEY, JWT], ids=["key", "jwt"])
def test_secrets_are_redacted_in_every_part_of_a_line(secret: str) -> None:
    try:
        raise ValueError(f"it was {secret}")
    except ValueError:
        line = json.dumps(written("saw %s", secret, exc_info=True, extra_field=secret, nested={"deep": [secret]}))
    assert secret not in line
    assert line.count(logs.REDACTED) == 4
    assert "ValueError" in line


def test_passwords_in_urls_are_redacted() -> None:
    line = json.dumps(written("connecting to %s", URL))
    assert "hunter2" not in line
    assert "db.example" in line


def test_an_access_log_line_has_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_ids(request_id="r-1")
    logs.AccessLog("kataven.access").info("request", status=200, account=None, method=KEY)
    logs.set_ids()
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


@pytest.mark.parametrize("value", ["\ud800", 1 << 70], ids=["lone-surrogate", "large-number"])
def test_a_line_can_contain_any_value(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    logs.AccessLog("kataven.access").info("request", principal=value, method=KEY)
    line = json.loads(capsys.readouterr().err)
    assert line["principal"] == value
    assert line["method"] == logs.REDACTED


RANDOM_PART = "a1B2" * 10 + "xyz" + "123456"
PARTIAL_SECRETS = {
    "cut-key": "sk_live_acme_" + "a" * 20,
    "key-with-more": f"{KEY}_and-more",
    "uppercase-key": KEY.upper(),
    "widget-key": "pk_live_acme_" + "b" * 30,
    "user-token": f"ut_{RANDOM_PART}",
    "cut-user-token": f"ut_{RANDOM_PART[:20]}",
    "refresh-token": f"rt_{RANDOM_PART[:43]}_{RANDOM_PART}",
    "cut-refresh-token": f"rt_{RANDOM_PART[:43]}_{RANDOM_PART[:10]}",
    "jwt-without-signature": JWT.rpartition(".")[0],
    "cut-jwt": JWT[:30],
    "uppercase-jwt": JWT.upper(),
}


@pytest.mark.parametrize("secret", PARTIAL_SECRETS.values(), ids=PARTIAL_SECRETS)
def test_partial_secrets_are_redacted(secret: str) -> None:
    for before, after in (("saw ", " here"), ("'Bearer ", "'"), ("refresh_token=", "&x")):
        assert logs.redact(before + secret + after) == before + logs.REDACTED + after


@pytest.mark.parametrize(
    "text", ["output_of_the_first_migration", "start_of_a_long_description", "sk_live_", "eyJ", "pk_live_ and so on"]
)
def test_ordinary_words_are_not_redacted(text: str) -> None:
    assert logs.redact(text) == text


PROCESS = """
import gc, logging, sys, threading, warnings
from kataven import logs
logs.capture_all_output()
logs.capture_all_output()
key = "sk_live_acme_" + "a" * 49
logging.getLogger("some.library").warning("it saw %s", key)
logging.getLogger("some.library").info("not of interest")
warnings.warn(f"about {key}")
def fail(): raise ValueError(f"in a thread, {key}")
thread = threading.Thread(target=fail, name="worker-1")
thread.start(); thread.join()
class Failing:
    def __del__(self): raise ValueError(f"in a finalizer, {key}")
Failing(); gc.collect()
raise SystemError(f"in the main thread, {key}")
"""


def test_all_output_of_a_service_is_json_without_secrets() -> None:
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


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("broken", [FullDisk(), closed()], ids=["full", "closed"])
def test_a_line_that_can_not_be_written_is_dropped(broken: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", broken)
    logs.AccessLog("kataven.access").info("request")


@given(st.text("sk_live_pkacme123eyJ.:/@ab\n-", max_size=120) | st.sampled_from([KEY, JWT, URL]))
def test_the_fast_path_misses_no_secret(text: str) -> None:
    line = f"{text} {KEY}"
    assert logs.redact(line).removesuffix(logs.REDACTED) == f"{logs.redact(text)} "
