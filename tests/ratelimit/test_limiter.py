"""Limiter on the request path of a Flask application: admission, slots, and 429 through Flask-Limiter's exception."""

from __future__ import annotations

from collections.abc import Iterator

import flask_limiter
import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from kataven.ratelimit.limiter import Limiter, LimitExceeded
from kataven.ratelimit.policy import KeyLimits, Limits
from tests.ratelimit.workers import patient_limiter, peek


@pytest.fixture
def limiter(redis_url: str) -> Iterator[Limiter]:
    limiter = patient_limiter(redis_url)
    yield limiter
    limiter.stop()


@pytest.fixture
def app() -> Flask:
    return Flask("limited")


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def test_admission_counts_and_holds_a_slot_until_released(limiter: Limiter) -> None:
    admission = limiter.admit("acme", Limits())
    assert [quota_status.used for quota_status in peek(limiter, "acme", Limits()).quota_statuses] == [1, 1, 1, 1]
    admission.release()
    admission.release()
    assert [quota_status.used for quota_status in peek(limiter, "acme", Limits()).quota_statuses] == [1, 1, 1, 0]


def test_rejection_raises_flask_limiters_exception_and_is_a_complete_response(
    app: Flask, browser: FlaskClient, limiter: Limiter
) -> None:
    @app.get("/agents")
    def agents() -> str:
        limiter.admit("acme", Limits(per_minute=1)).release()
        return "agents"

    assert browser.get("/agents").status_code == 200
    response = browser.get("/agents")
    assert response.status_code == 429
    assert "per-minute (1) exceeded" in response.text
    assert 59 <= int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit"].startswith('"per-minute";r=0;t=')
    assert response.headers["RateLimit-Policy"].startswith('"per-minute";q=1;w=60')


def test_handler_of_flask_limiters_exception_receives_the_decision(
    app: Flask, browser: FlaskClient, limiter: Limiter
) -> None:
    @app.errorhandler(flask_limiter.RateLimitExceeded)
    def problem(error: LimitExceeded) -> Response:
        return Response(f"rate_limited: {error.detail}", 429, error.headers())

    @app.get("/agents")
    def agents() -> str:
        limiter.admit("acme", Limits(), "ci", KeyLimits(per_hour=1)).release()
        return "agents"

    assert browser.get("/agents").text == "agents"
    response = browser.get("/agents")
    assert response.text == "rate_limited: key-per-hour (1) exceeded"
    assert 3598 <= int(response.headers["Retry-After"]) <= 3600


def test_key_over_its_limit_does_not_block_other_keys_of_the_account(limiter: Limiter) -> None:
    noisy = KeyLimits(per_minute=1)
    limiter.admit("acme", Limits(per_minute=3), "noisy", noisy).release()
    for _ in range(5):
        with pytest.raises(LimitExceeded, match="key-per-minute"):
            limiter.admit("acme", Limits(per_minute=3), "noisy", noisy)
    limiter.admit("acme", Limits(per_minute=3), "quiet", noisy).release()
    limiter.admit("acme", Limits(per_minute=3)).release()


def test_key_without_separate_limits_has_the_account_limits(limiter: Limiter) -> None:
    admission = limiter.admit("acme", Limits(), "ci", KeyLimits())
    assert [quota_status.quota.name for quota_status in admission.quota_statuses] == [
        "per-minute",
        "per-hour",
        "per-day",
        "concurrent",
    ]
    admission.release()


def test_account_over_its_limit_does_not_affect_other_accounts(limiter: Limiter) -> None:
    limiter.admit("globex", Limits(per_minute=1, concurrent=1))
    with pytest.raises(LimitExceeded):
        limiter.admit("globex", Limits(per_minute=1, concurrent=1))
    admission = limiter.admit("acme", Limits(per_minute=1, concurrent=1))
    assert [quota_status.used for quota_status in admission.quota_statuses] == [1, 1, 1, 1]


def test_changed_limits_apply_to_the_next_request(limiter: Limiter) -> None:
    limiter.admit("acme", Limits(per_minute=1)).release()
    with pytest.raises(LimitExceeded):
        limiter.admit("acme", Limits(per_minute=1))
    limiter.admit("acme", Limits(per_minute=2)).release()


def test_reset_account_starts_with_no_usage(limiter: Limiter) -> None:
    limits = Limits(per_minute=3)
    for account in ("acme", "globex"):
        limiter.admit(account, limits)
    limiter.reset("acme")
    assert [quota_status.used for quota_status in peek(limiter, "acme", limits).quota_statuses] == [0, 0, 0, 0]
    assert [quota_status.used for quota_status in peek(limiter, "globex", limits).quota_statuses] == [1, 1, 1, 1]


def test_reset_without_redis_logs_that_usage_expires(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter.at("unix:///nowhere", app="api")
    limits = Limits(per_minute=1)
    limiter.admit("acme", limits).release()
    limiter.reset("acme")
    assert limiter.admit("acme", limits).quota_statuses[0].used == 1
    assert "could not reset the usage of acme; it expires within a day" in caplog.text
    limiter.stop()


def test_no_connection_is_opened_before_the_first_request() -> None:
    limiter = Limiter.at("unix:///nowhere", app="api")
    assert not limiter.degraded
    limiter.stop()
