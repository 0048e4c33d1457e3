"""The face: what a Flask application sees of the limits, on the path of a request and on decorated routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import flask_limiter
import pytest
from flask import Blueprint, Flask, Response, request
from flask.testing import FlaskClient

from kataven.ratelimit import limiter as face
from kataven.ratelimit.limiter import Limiter, LimitExceeded
from kataven.ratelimit.limiter.decorators import Decorators, decorators
from kataven.ratelimit.policy import KeyLimits, Limits
from tests.ratelimit.monitor import commands_during
from tests.ratelimit.workers import look, patient_limiter

Refused = list[LimitExceeded]


@pytest.fixture
def limiter(redis_url: str) -> Iterator[Limiter]:
    limiter = patient_limiter(redis_url)
    yield limiter
    limiter.stop()


@pytest.fixture
def app(limiter: Limiter) -> Flask:
    app = Flask("limited")
    face.install(app, limiter, lambda: request.headers.get("Client", "203.0.113.7"))
    return app


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def statuses(browser: FlaskClient, path: str, times: int, **headers: str) -> list[int]:
    return [browser.get(path, headers=headers).status_code for _ in range(times)]


def test_admission_counts_and_holds_a_slot_until_released(limiter: Limiter) -> None:
    admission = limiter.admit("acme", Limits())
    assert [quota_status.used for quota_status in look(limiter, "acme", Limits()).quota_statuses] == [1, 1, 1, 1]
    admission.release()
    admission.release()
    assert [quota_status.used for quota_status in look(limiter, "acme", Limits()).quota_statuses] == [1, 1, 1, 0]


def test_refusal_is_flask_limiters_own_exception_and_a_complete_answer(
    app: Flask, browser: FlaskClient, limiter: Limiter
) -> None:
    @app.get("/agents")
    def agents() -> str:
        limiter.admit("acme", Limits(per_minute=1)).release()
        return "agents"

    assert browser.get("/agents").status_code == 200
    answer = browser.get("/agents")
    assert answer.status_code == 429
    assert "per-minute (1) exceeded" in answer.text
    assert 59 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit"].startswith('"per-minute";r=0;t=')
    assert answer.headers["RateLimit-Policy"].startswith('"per-minute";q=1;w=60')


def test_handler_of_flask_limiters_exception_sees_the_decision(
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
    answer = browser.get("/agents")
    assert answer.text == "rate_limited: key-per-hour (1) exceeded"
    assert 3598 <= int(answer.headers["Retry-After"]) <= 3600


def test_noisy_key_does_not_stop_its_accounts_other_keys(limiter: Limiter) -> None:
    noisy = KeyLimits(per_minute=1)
    limiter.admit("acme", Limits(per_minute=3), "noisy", noisy).release()
    for _ in range(5):
        with pytest.raises(LimitExceeded, match="key-per-minute"):
            limiter.admit("acme", Limits(per_minute=3), "noisy", noisy)
    limiter.admit("acme", Limits(per_minute=3), "quiet", noisy).release()
    limiter.admit("acme", Limits(per_minute=3)).release()


def test_key_without_limits_of_its_own_has_its_accounts(limiter: Limiter) -> None:
    admission = limiter.admit("acme", Limits(), "ci", KeyLimits())
    assert [quota_status.quota.name for quota_status in admission.quota_statuses] == [
        "per-minute",
        "per-hour",
        "per-day",
        "concurrent",
    ]
    admission.release()


def test_charlie_at_his_limit_changes_nothing_for_acme(limiter: Limiter) -> None:
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


def test_account_that_is_forgotten_begins_with_nothing_used(limiter: Limiter) -> None:
    limits = Limits(per_minute=3)
    for account in ("acme", "globex"):
        limiter.admit(account, limits)
    limiter.forget("acme")
    assert [quota_status.used for quota_status in look(limiter, "acme", limits).quota_statuses] == [0, 0, 0, 0]
    assert [quota_status.used for quota_status in look(limiter, "globex", limits).quota_statuses] == [1, 1, 1, 1]


def test_account_is_forgotten_by_itself_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter.at("unix:///nowhere", surface="api")
    limits = Limits(per_minute=1)
    limiter.admit("acme", limits).release()
    limiter.forget("acme")
    assert limiter.admit("acme", limits).quota_statuses[0].used == 1
    assert "acme has used is forgotten by itself" in caplog.text
    limiter.stop()


def test_nothing_is_opened_before_the_first_request() -> None:
    limiter = Limiter.at("unix:///nowhere", surface="api")
    assert not limiter.degraded
    limiter.stop()


def test_decorated_route_is_limited_by_client_address(app: Flask, browser: FlaskClient) -> None:
    @app.get("/decorated")
    @face.limit("2/minute")
    def decorated() -> str:
        return "ok"

    assert statuses(browser, "/decorated", 3) == [200, 200, 429]
    assert statuses(browser, "/decorated", 1, Client="203.0.113.8") == [200]
    assert statuses(browser, "/decorated", 3, Client="2001:db8::1") == [200, 200, 429]
    assert statuses(browser, "/decorated", 1, Client="2001:db8::2") == [429]


def test_answers_of_a_decorated_route_say_what_is_left(app: Flask, browser: FlaskClient) -> None:
    @app.get("/told")
    @face.limit("1/hour")
    def told() -> str:
        return "ok"

    answer = browser.get("/told")
    assert answer.headers["RateLimit-Policy"] == '"per-hour";q=1;w=3600'
    assert answer.headers["RateLimit"] == '"per-hour";r=0;t=3600'
    refusal = browser.get("/told")
    assert "per-hour (1) exceeded" in refusal.text
    assert 3598 <= int(refusal.headers["Retry-After"]) <= 3600
    assert len(refusal.headers.getlist("RateLimit")) == 1


def test_decorated_route_is_counted_for_all_workers(app: Flask, browser: FlaskClient, redis_url: str) -> None:
    @app.get("/shared-by-workers")
    @face.limit("2/minute")
    def shared_by_workers() -> str:
        return "ok"

    other = Flask("another worker")
    limiter = patient_limiter(redis_url)
    face.install(other, limiter, lambda: "203.0.113.7")
    other.add_url_rule("/shared-by-workers", view_func=shared_by_workers)
    assert statuses(browser, "/shared-by-workers", 1) == [200]
    assert statuses(other.test_client(), "/shared-by-workers", 2) == [200, 429]
    limiter.stop()


def test_limits_shared_by_routes_and_of_whole_blueprints(app: Flask, browser: FlaskClient) -> None:
    together = face.shared_limit("2/minute", scope="together")
    app.add_url_rule("/one", view_func=together(_named("one")))
    app.add_url_rule("/two", view_func=together(_named("two")))
    blueprint = Blueprint("room", __name__)
    blueprint.add_url_rule("/in-the-room", view_func=_named("in_the_room"))
    face.limit("1/minute")(blueprint)
    app.register_blueprint(blueprint)

    assert statuses(browser, "/one", 1) + statuses(browser, "/two", 2) == [200, 200, 429]
    assert statuses(browser, "/in-the-room", 2) == [200, 429]


def test_default_limits_of_the_configuration_apply_to_every_route(app: Flask, browser: FlaskClient) -> None:
    app.config["RATELIMIT_DEFAULT"] = "1/minute"
    decorators = Decorators()
    decorators.init_app(app)
    app.add_url_rule("/default", view_func=_named("default"))
    app.add_url_rule("/exempt", view_func=decorators.exempt(_named("exempted")))
    assert statuses(browser, "/default", 2) == [200, 429]
    assert statuses(browser, "/exempt", 2) == [200, 200]


def _named(name: str) -> Callable[[], str]:
    def view() -> str:
        return name

    view.__name__ = view.__qualname__ = name
    return view


def test_options_of_a_decorator_mean_what_flask_limiter_says(app: Flask, browser: FlaskClient) -> None:
    @app.get("/message")
    @face.limit("1/minute", error_message="not so fast")
    def message() -> str:
        return "ok"

    @app.get("/own-answer")
    @face.limit("1/minute", on_breach=lambda _: Response("mine", 429))
    def own_answer() -> str:
        return "ok"

    @app.get("/sometimes")
    @face.limit("1/minute", exempt_when=lambda: request.headers.get("Friend") == "yes")
    def sometimes() -> str:
        return "ok"

    @app.get("/failures")
    @face.limit("1/minute", deduct_when=lambda response: response.status_code == 400)
    def failures() -> Response:
        return Response(status=400 if request.headers.get("Fail") else 200)

    assert statuses(browser, "/message", 1) == [200]
    assert "not so fast" in browser.get("/message").text
    assert statuses(browser, "/own-answer", 1) == [200]
    assert browser.get("/own-answer").text == "mine"
    assert statuses(browser, "/sometimes", 3, Friend="yes") == [200, 200, 200]
    assert statuses(browser, "/sometimes", 2) == [200, 429]
    assert statuses(browser, "/failures", 2) == [200, 200]
    assert statuses(browser, "/failures", 2, Fail="yes") == [400, 429]


def test_cost_of_its_own_is_not_supported(app: Flask, browser: FlaskClient) -> None:
    app.testing = True

    @app.get("/dear")
    @face.limit("10/minute", cost=2)
    def dear() -> str:
        return "ok"

    with pytest.raises(NotImplementedError, match="cost"):
        browser.get("/dear")


def test_block_of_code_is_limited_with_a_context_manager(app: Flask, browser: FlaskClient) -> None:
    @app.get("/block")
    def block() -> str:
        with face.limit("1/minute"):
            return "ok"

    assert statuses(browser, "/block", 2) == [200, 429]


def test_decorated_route_is_limited_without_redis() -> None:
    limiter = Limiter.at("unix:///nowhere", surface="api")
    app = Flask("alone")
    face.install(app, limiter, lambda: "203.0.113.7")

    @app.get("/alone")
    @face.limit("1/minute")
    def alone() -> str:
        return "ok"

    assert statuses(app.test_client(), "/alone", 2) == [200, 429]
    limiter.stop()


def test_route_without_limits_asks_redis_nothing(app: Flask, browser: FlaskClient, redis_url: str) -> None:
    app.add_url_rule("/free", view_func=_named("free"))
    with commands_during(redis_url) as commands:
        answer = browser.get("/free")
    assert commands == []
    assert "RateLimit" not in answer.headers


def test_decorators_are_found_by_flask_limiters_own_commands(app: Flask) -> None:
    assert decorators in app.extensions["limiter"]
