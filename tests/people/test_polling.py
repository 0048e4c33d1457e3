"""`kataven events poll`: security events are received by polling (RFC 8936), from a transmitter over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from kataven import process_services, settings
from kataven.people.access import EVENT_APPLIED
from kataven.people.poller import EventPoller
from kataven.people.receiver import SecurityEventReceiver
from kataven.people.replays import EventInProgress
from kataven.people.transmitter import Reports, StopSignal, Transmitter, TransmitterFailed
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.system import operators
from kataven.web.internal_access import InternalAccess
from kataven.web.poll_metrics import HEALTHY_SECONDS, PollMetrics
from tests.people.test_security_events import AUDIENCE, code, event, signed_in
from tests.support.app_harness import AppHarness
from tests.support.clock import Clock
from tests.support.gunicorn import free_port
from tests.support.transmitter import RfcTransmitter, transmitting

TOKEN = "a transmitter's token"


@pytest.fixture
def transmitter() -> Iterator[RfcTransmitter]:
    with transmitting(TOKEN) as running:
        yield running


@pytest.fixture
def receiver(harness: AppHarness) -> Iterator[SecurityEventReceiver]:
    configured = settings.load({**harness.environ, "KATAVEN_EVENTS_AUDIENCE": AUDIENCE})
    found = process_services.event_receiver(configured, harness.services.people, lambda *_: None)
    yield found
    found.replays.close()


def poller(transmitter: RfcTransmitter, receiver: Any, **options: Any) -> EventPoller:
    client = Transmitter(transmitter.url, TOKEN, {"trust_env": False})
    quick = {"wait_seconds": 10, "first_backoff_seconds": 0.01, "min_interval_seconds": 0, **options}
    return EventPoller(client, receiver, StopSignal(), **quick)


def offered(harness: AppHarness, transmitter: RfcTransmitter, sub: str, **claims: Any) -> str:
    jti = str(claims.pop("jti", uuid4()))
    transmitter.offer(jti, event(harness, sub, jti=jti, **claims))
    return jti


def test_a_polled_event_is_applied_and_then_acknowledged(
    harness: AppHarness, transmitter: RfcTransmitter, receiver: SecurityEventReceiver
) -> None:
    sub, caller = signed_in(harness)
    jti = offered(harness, transmitter, sub)
    polling = poller(transmitter, receiver)
    assert polling.poll_once() == 0
    assert transmitter.acknowledged == []
    assert code(caller) == "session_ended"
    transmitter.offer("next", event(harness, "dana", jti="next"))
    polling.poll_once()
    assert transmitter.acknowledged == [jti]
    first, second = transmitter.requests
    assert (first["returnImmediately"], first["maxEvents"] > 0, "ack" in first) == (False, True, False)
    assert second["ack"] == [jti]
    with harness.services.directory.database.reading() as session:
        found = [one.detail for one in operators.listing(session, 5, action=EVENT_APPLIED)]
    assert any(one["sub"] == sub and one["event"] == "session-revoked" and "receipt" in one for one in found)


def test_an_event_without_a_receipt_is_delivered_again(
    harness: AppHarness, transmitter: RfcTransmitter, receiver: SecurityEventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub, caller = signed_in(harness)
    jti = offered(harness, transmitter, sub)
    polling = poller(transmitter, receiver)

    def unconfirmed(*_: Any, **__: Any) -> None:
        raise RevocationUnconfirmed

    with monkeypatch.context() as patch:
        patch.setattr(harness.services.revocation, "revoke", unconfirmed)
        assert polling.poll_once() > 0
        assert polling.counts.pending == 1
    polling.poll_once()
    assert polling.counts.pending == 0
    assert [request.get("ack", []) for request in transmitter.requests] == [[], []]
    assert code(caller) == "session_ended"
    transmitter.offer("another", event(harness, "dana", jti="another"))
    polling.poll_once()
    assert transmitter.acknowledged == [jti]


@pytest.mark.parametrize(
    ("claims", "error", "rule"),
    [
        ({"aud": "another"}, "invalid_audience", "audience"),
        ({"iss": "https://another.example"}, "invalid_issuer", "issuer"),
        ({"nonce": "n"}, "invalid_request", "nonce"),
        ({"exp": 1}, "invalid_request", "expired"),
        ({"sub_id": None}, "invalid_request", "subject"),
    ],
    ids=str,
)
def test_a_refused_event_is_reported_with_its_rule(
    harness: AppHarness,
    transmitter: RfcTransmitter,
    receiver: SecurityEventReceiver,
    claims: dict[str, Any],
    error: str,
    rule: str,
) -> None:
    jti = offered(harness, transmitter, "dana", **claims)
    polling = poller(transmitter, receiver)
    polling.poll_once()
    assert polling.counts.refused == 1
    polling._report_last()
    assert transmitter.errors[jti]["err"] == error
    assert transmitter.errors[jti]["description"].startswith(f"{rule}: ")
    assert not transmitter.undelivered


@pytest.mark.parametrize(
    ("token", "error"),
    [("not a token", "invalid_request"), ("eyJhbGciOiJub25lIn0.e30.", "invalid_key"), ("x" * 9000, "invalid_request")],
    ids=["text", "alg none", "long"],
)
def test_what_is_no_event_is_reported(
    transmitter: RfcTransmitter, receiver: SecurityEventReceiver, token: str, error: str
) -> None:
    transmitter.offer("1", token)
    polling = poller(transmitter, receiver)
    polling.poll_once()
    polling._report_last()
    assert transmitter.errors["1"]["err"] == error


def test_an_event_under_another_id_is_refused(
    harness: AppHarness, transmitter: RfcTransmitter, receiver: SecurityEventReceiver
) -> None:
    sub, caller = signed_in(harness)
    transmitter.offer("another id", event(harness, sub))
    polling = poller(transmitter, receiver)
    polling.poll_once()
    polling._report_last()
    assert transmitter.errors["another id"]["description"].startswith("jti: ")
    assert code(caller) == "accepted"


def test_a_second_instance_applies_nothing_twice(
    harness: AppHarness, transmitter: RfcTransmitter, receiver: SecurityEventReceiver
) -> None:
    sub, _ = signed_in(harness)
    offered(harness, transmitter, sub)
    poller(transmitter, receiver).poll_once()
    before = harness.services.revocation.stats.revocations
    other = poller(transmitter, receiver)
    other.poll_once()
    assert harness.services.revocation.stats.revocations == before
    other._report_last()
    assert len(transmitter.acknowledged) == 1


def test_an_event_that_another_instance_applies_now_is_not_acknowledged(
    harness: AppHarness, transmitter: RfcTransmitter, receiver: SecurityEventReceiver
) -> None:
    sub, caller = signed_in(harness)
    jti = offered(harness, transmitter, sub)
    polling = poller(transmitter, receiver)
    with receiver.replays.claimed(receiver.issuer, jti):
        polling.poll_once()
        assert polling.counts.pending == 1
        assert code(caller) == "accepted"
        with pytest.raises(EventInProgress):
            receiver.receive(transmitter.undelivered[jti])
    polling.poll_once()
    assert code(caller) == "session_ended"


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (("401 Unauthorized", [], b""), "unauthorized"),
        (("500 Internal Server Error", [], b""), "refused"),
        (("302 Found", [("Location", "http://127.0.0.1:1/")], b""), "refused"),
        (("200 OK", [], b"[]"), "invalid_response"),
        (("200 OK", [], b'{"sets":[]}'), "invalid_response"),
        (("200 OK", [], b'{"sets":{"1":{}}}'), "invalid_response"),
        (("200 OK", [], b" " * 1_100_000), "invalid_response"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_failures_are_counted_and_back_off(
    transmitter: RfcTransmitter, response: tuple[str, list[tuple[str, str]], bytes], outcome: str
) -> None:
    transmitter.failures += [response] * 4
    polling = poller(transmitter, None)
    delays = [polling.poll_once() for _ in range(4)]
    assert polling.counts.polls[outcome] == 4
    assert polling.counts.succeeded_at is None
    assert 0 < delays[0] <= 0.01
    assert 0.04 <= delays[3] <= 0.08


def test_an_unexpected_error_of_one_event_does_not_stop_the_others(transmitter: RfcTransmitter) -> None:
    class OneFails:
        def receive(self, token: str, jti: str | None = None) -> None:
            if jti == "1":
                raise RuntimeError

    for jti in ("1", "2"):
        transmitter.offer(jti, "a.set.token")
    polling = poller(transmitter, OneFails())
    assert polling.poll_once() > 0
    assert polling.counts.pending == 1
    polling._report_last()
    assert transmitter.acknowledged == ["2"]
    assert list(transmitter.undelivered) == ["1"]


def test_events_of_a_transmitter_that_compresses_are_read(transmitter: RfcTransmitter) -> None:
    transmitter.compresses = True
    transmitter.offer("1", "a.set.token")
    delivered = Transmitter(transmitter.url, TOKEN, {"trust_env": False}).poll(Reports(), StopSignal(), wait_seconds=10)
    assert delivered.sets == {"1": "a.set.token"}


def test_the_wait_that_the_transmitter_asks_for_is_respected(transmitter: RfcTransmitter) -> None:
    transmitter.failures += [("503 Service Unavailable", [("Retry-After", "7")], b"")]
    assert poller(transmitter, None).poll_once() == 7


def test_a_transmitter_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(TransmitterFailed) as failed:
        Transmitter(f"http://127.0.0.1:{free_port()}/", None, {}).report(Reports(("1",)), timeout_seconds=10)
    assert failed.value.outcome == "unreachable"


def test_an_acknowledgement_that_was_lost_is_repeated(
    harness: AppHarness, transmitter: RfcTransmitter, receiver: SecurityEventReceiver
) -> None:
    jti = offered(harness, transmitter, "dana")
    polling = poller(transmitter, receiver)
    polling.poll_once()
    url, polling._transmitter._url = polling._transmitter._url, f"http://127.0.0.1:{free_port()}/"
    assert polling.poll_once() > 0
    polling._transmitter._url = url
    polling._report_last()
    assert transmitter.acknowledged == [jti]


def test_metrics_and_health_of_the_service() -> None:
    clock = Clock(1000.0)
    metrics, port = PollMetrics(clock), free_port()
    server = metrics.serve(("127.0.0.1", port), InternalAccess("a metrics token"))
    try:
        metrics.count("session-revoked", "applied")
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": "Bearer a metrics token"}
        assert httpx2.get(f"{url}/metrics", trust_env=False).status_code == 403
        text = httpx2.get(f"{url}/metrics", headers=headers, trust_env=False).text
        assert 'kataven_security_events_total{event="session-revoked",outcome="applied"} 1.0' in text
        assert 'kataven_event_polls_total{outcome="unreachable"} 0.0' in text
        assert httpx2.get(f"{url}/healthz", trust_env=False).status_code == 200
        clock.advance(HEALTHY_SECONDS)
        assert httpx2.get(f"{url}/healthz", trust_env=False).status_code == 503
    finally:
        server.shutdown()
        server.server_close()


def test_the_service_runs_until_sigterm_and_acknowledges_what_it_applied(
    harness: AppHarness, transmitter: RfcTransmitter
) -> None:
    sub, caller = signed_in(harness)
    environ = {
        "PATH": os.environ["PATH"],
        **harness.environ,
        "KATAVEN_EVENTS_AUDIENCE": AUDIENCE,
        "KATAVEN_EVENTS_POLL_URL": transmitter.url,
        "KATAVEN_EVENTS_POLL_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "kataven", "events", "poll"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        transmitter.wait_for(lambda: transmitter.requests)  # it is waiting for events
        jti = offered(harness, transmitter, sub)
        transmitter.wait_for(lambda: transmitter.acknowledged == [jti])
        assert code(caller) == "session_ended"
        process.send_signal(signal.SIGTERM)  # while it waits for the next event
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "sessions ended by a security event" in output
    assert TOKEN not in output


def test_the_command_needs_a_poll_endpoint(harness: AppHarness) -> None:
    result = harness.app.test_cli_runner().invoke(args=["events", "poll"])
    assert (result.exit_code, "KATAVEN_EVENTS_AUDIENCE is not set" in result.output) == (1, True)


# The examples of RFC 8936, sections 2.4 and 2.5: the transmitter of these tests behaves as the RFC states.
FIRST, SECOND = "4d3559ec67504aaba65d40b0363faad8", "3d0c3cf797584bd193bd0fb1bd4e7d30"
ERROR = {"err": "authentication_failed", "description": "The SET could not be authenticated"}


@pytest.mark.parametrize(
    ("request_body", "sets", "acknowledged", "errors"),
    [
        ({"returnImmediately": True}, {FIRST, SECOND}, [], {}),
        ({"ack": [FIRST, SECOND], "maxEvents": 0}, set(), [FIRST, SECOND], {}),
        ({"ack": [FIRST], "returnImmediately": False}, {SECOND}, [FIRST], {}),
        ({"ack": [SECOND], "setErrs": {FIRST: ERROR}, "returnImmediately": True}, set(), [SECOND], {FIRST: ERROR}),
        ({"maxEvents": 1}, {FIRST}, [], {}),
    ],
    ids=["poll", "acknowledge only", "poll with acknowledgement", "poll with errors", "fewer events"],
)
def test_the_transmitter_of_these_tests_behaves_as_the_examples(
    transmitter: RfcTransmitter,
    request_body: dict[str, Any],
    sets: set[str],
    acknowledged: list[str],
    errors: dict[str, Any],
) -> None:
    for jti in (FIRST, SECOND):
        transmitter.offer(jti, "a.set.token")
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Language": "en-US"}
    found = httpx2.post(transmitter.url, json=request_body, headers=headers, trust_env=False).json()
    assert set(found["sets"]) == sets
    assert (transmitter.acknowledged, transmitter.errors) == (acknowledged, errors)
    assert found.get("moreAvailable", False) == (len(sets) < len(transmitter.undelivered))


def test_the_poller_sends_what_the_examples_show() -> None:
    reports = Reports((SECOND,), {FIRST: (ERROR["err"], ERROR["description"])})
    assert reports.as_json() == {"ack": [SECOND], "setErrs": {FIRST: ERROR}}
    assert Reports().as_json() == {}
