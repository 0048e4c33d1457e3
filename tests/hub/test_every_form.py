"""Every form of the Hub, opened and submitted in two tabs: no change is lost silently, and no page returns 500.

The forms come from the URL map. A new form fails until it has an example here.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import pytest
import redis
from sqlalchemy import text
from werkzeug.test import TestResponse

from kataven.dev.personas import ALICE, BOB, OLIVIA, Persona
from kataven.hub.page_blueprint import is_called_by_issuer, is_called_while_typing, refill_of, takes_a_secret
from kataven.operations import limit_raises, revocation_measurement
from kataven.operations.operator import Operator
from kataven.people.access import Cause
from kataven.revocation import EVERYTHING
from kataven.system.schema import ACCOUNT_SCHEMA
from tests.hub.conftest import Hub
from tests.hub.forms import Form, forms_of
from tests.hub.hub_browser import HubBrowser, redirect_target
from tests.hub.test_agents import FORM as AGENT
from tests.hub.test_kept_forms import let_session_expire
from tests.support.app_harness import AppHarness, new_account

NAMES = itertools.count(1)

Things = dict[str, str]
"""Path parameters, and other values for the forms."""


@dataclass(frozen=True)
class Example:
    """How to open a form, and the values that two tabs enter."""

    page: str
    """The page of the form, with `{name}` for path parameters."""
    first: Things = field(default_factory=dict)
    second: Things = field(default_factory=dict)
    then: str = "done"
    """The result of the second tab's form: done (again, or with the same result), shown (both values, to choose
    from), gone (its object was deleted), said (a message reports that it was already done)."""
    person: Persona = ALICE
    prepare: Callable[[HubBrowser, AppHarness], Things] = lambda _visitor, _harness: {}


def new_agent(browser: HubBrowser, _: AppHarness) -> Things:
    browser.get("/agents/new")
    made = browser.post("/agents/new", {**AGENT, "name": f"Agent {next(NAMES)}"})
    return {"agent_id": made.location.rpartition("/")[2]}


def new_key(browser: HubBrowser, _: AppHarness) -> Things:
    name = f"Key {next(NAMES)}"
    browser.get("/settings/api-keys/new")
    browser.post("/settings/api-keys/new", {"name": name, "expiry": "never"})
    page = browser.get("/settings/api-keys").text
    found = re.search(rf'/settings/api-keys/([0-9a-f-]+)"><bdi>{name}</bdi>', page)
    assert found
    return {"key_id": found[1]}


def paused_key(browser: HubBrowser, harness: AppHarness) -> Things:
    things = new_key(browser, harness)
    browser.get(f"/settings/api-keys/{things['key_id']}")
    browser.post(f"/settings/api-keys/{things['key_id']}/pause")
    return things


def rotated_key(browser: HubBrowser, harness: AppHarness) -> Things:
    things = new_key(browser, harness)
    browser.get(f"/settings/api-keys/{things['key_id']}/rotate")
    assert browser.post(f"/settings/api-keys/{things['key_id']}/rotate", {"grace": "60"}).status_code == 201
    return things


def new_widget_key(browser: HubBrowser, _: AppHarness) -> Things:
    browser.get("/settings/widget-keys")
    made = browser.post("/settings/widget-keys", {"name": f"Key {next(NAMES)}", "domain_allowlist": "acme.com"})
    found = re.search(r'href="/settings/widget-keys/([0-9a-f-]{36})"', made.text)
    assert found
    return {"key_id": found[1]}


def disabled_widget_key(browser: HubBrowser, harness: AppHarness) -> Things:
    things = new_widget_key(browser, harness)
    browser.get(f"/settings/widget-keys/{things['key_id']}")
    browser.post(f"/settings/widget-keys/{things['key_id']}/disable")
    return things


def account(*steps: str) -> Callable[[HubBrowser, AppHarness], Things]:
    def made(browser: HubBrowser, harness: AppHarness) -> Things:
        name = f"form-{next(NAMES)}"
        new_account(harness.services, name)
        for step in steps:
            browser.get(f"/console/accounts/{name}")
            assert browser.post(f"/console/accounts/{name}/{step}", {"confirm": name}).status_code == 303
        return {"account": name}

    return made


def raised_account(browser: HubBrowser, harness: AppHarness) -> Things:
    things = account()(browser, harness)
    limit_raises.raise_limits(Operator("test", harness.services), things["account"], {"concurrent": 2_000}, 1)
    return things


def account_with_key(browser: HubBrowser, harness: AppHarness) -> Things:
    things = account()(browser, harness)
    key = harness.bearer(harness.new_key(things["account"]))
    return {**things, "key_id": key.get("/v1/me").get_json()["credential"]["id"]}


def account_with_paused_key(browser: HubBrowser, harness: AppHarness) -> Things:
    things = account_with_key(browser, harness)
    page = "/console/accounts/{account}/keys/{key_id}".format(**things)
    browser.get(page)
    browser.post(f"{page}/pause")
    return things


def new_name(_: HubBrowser, __: AppHarness) -> Things:
    return {"name": f"form-{next(NAMES)}"}


def of_account(first: Things, second: Things, then: str, *steps: str) -> Example:
    return Example("/console/accounts/{account}", first, second, then, OLIVIA, account(*steps))


def seen_member(_: HubBrowser, harness: AppHarness) -> Things:
    """A member of acme whom the account has seen."""
    member = replace(BOB, subject=f"member-{next(NAMES)}")
    assert harness.user(member).get("/v1/me").status_code == 200
    harness.services.people_seen.flush()
    person = harness.services.people.person(member.subject)
    return {"person_id": person.id, "account": "acme", "sub": person.sub}


def blocked_member(browser: HubBrowser, harness: AppHarness) -> Things:
    things = seen_member(browser, harness)
    person = harness.services.people.person(things["sub"])
    harness.services.people.block(person, "Mia", "acme", Cause("a test", "test:form"))
    return things


def other_browser(browser: HubBrowser, _: AppHarness) -> Things:
    """Another session of the same user."""
    other = HubBrowser(browser.client.application, browser.url).sign_in(ALICE)
    other.get("/")
    cookie = other.client.get_cookie("kataven-hub")
    assert cookie is not None
    return {"session": hashlib.sha256(cookie.value.encode()).hexdigest()}


def new_subject(_: HubBrowser, __: AppHarness) -> Things:
    return {"sub": f"subject-{next(NAMES)}"}


BUTTONS = {"/accounts", "/audit-log/export", "/console/trail/export"}
"""Forms whose only value is that of the pressed button: nothing can be lost."""
CONFIRMED = {"confirm": "{account}"}
EXAMPLES: dict[str, Example] = {
    "/sign-in": Example("/sign-in", {"account": "acme"}, {"account": "acme"}, "done"),
    "/sign-out": Example("/", then="done"),
    "/theme": Example("/", then="done"),
    "/accounts": Example("/accounts", {"account": "acme"}, {"account": "acme"}, "said"),
    "/agents/new": Example("/agents/new", {"name": "One"}, {"name": "Two"}, "done"),
    "/agents/<agent_id>": Example(
        "/agents/{agent_id}", {"description": "One"}, {"voice_id": "two"}, "shown", ALICE, new_agent
    ),
    "/agents/<agent_id>/delete": Example("/agents/{agent_id}", then="gone", prepare=new_agent),
    **{
        f"/people/<person_id>/{verb}": Example("/people", then="done", prepare=prepare)
        for verb, prepare in (("end-sessions", seen_member), ("block", seen_member), ("lift", blocked_member))
    },
    **{
        f"/console/accounts/<account>/people/<person_id>/{verb}": Example(
            "/console/accounts/{account}/people", then="done", person=OLIVIA, prepare=prepare
        )
        for verb, prepare in (("end-sessions", seen_member), ("block", seen_member), ("lift", blocked_member))
    },
    "/sessions/<session>/end": Example("/sessions", then="done", prepare=other_browser),
    "/sessions/end-all": Example("/sessions", then="done"),
    "/console/people/end": Example("/console/people", {"sub": "{sub}"}, {"sub": "{sub}"}, "done", OLIVIA, new_subject),
    "/settings/api-keys/new": Example("/settings/api-keys/new", {"name": "One"}, {"name": "Two"}, "done"),
    "/settings/api-keys/bulk": Example(
        "/settings/api-keys/bulk?action=pause&ids={key_id}", then="done", prepare=new_key
    ),
    "/settings/api-keys/<key_id>/edit": Example(
        "/settings/api-keys/{key_id}/edit",
        {"allowed_addresses": "192.0.2.0/24"},
        {"per_minute": "7"},
        "shown",
        ALICE,
        new_key,
    ),
    "/settings/api-keys/<key_id>/scopes": Example("/settings/api-keys/{key_id}/scopes", then="done", prepare=new_key),
    "/settings/api-keys/<key_id>/rotate": Example(
        "/settings/api-keys/{key_id}/rotate", {"grace": "0"}, {"grace": "3600"}, "done", ALICE, new_key
    ),
    "/settings/api-keys/<key_id>/former-secret": Example(
        "/settings/api-keys/{key_id}", then="done", prepare=rotated_key
    ),
    "/settings/api-keys/<key_id>/pause": Example("/settings/api-keys/{key_id}", then="done", prepare=new_key),
    "/settings/api-keys/<key_id>/resume": Example("/settings/api-keys/{key_id}", then="done", prepare=paused_key),
    "/settings/api-keys/<key_id>/revoke": Example("/settings/api-keys/{key_id}/revoke", then="done", prepare=new_key),
    "/search": Example("/search", {"secret": "Pasted"}, {"secret": "Pasted"}, "done"),
    "/console/search": Example("/console/search", {"secret": "Pasted"}, {"secret": "Pasted"}, "done", OLIVIA),
    "/settings/widget-keys": Example("/settings/widget-keys", {"name": "One"}, {"name": "Two"}, "done"),
    "/settings/widget-keys/<key_id>": Example(
        "/settings/widget-keys/{key_id}", {"domain_allowlist": "a.com"}, {"name": "Two"}, "shown", ALICE, new_widget_key
    ),
    "/settings/widget-keys/<key_id>/disable": Example(
        "/settings/widget-keys/{key_id}", then="done", prepare=new_widget_key
    ),
    "/settings/widget-keys/<key_id>/enable": Example(
        "/settings/widget-keys/{key_id}", then="done", prepare=disabled_widget_key
    ),
    "/settings/widget-keys/<key_id>/remove": Example(
        "/settings/widget-keys/{key_id}", then="gone", prepare=new_widget_key
    ),
    "/audit-log/export": Example("/audit-log", {"format": "csv"}, {"format": "ndjson"}, "done"),
    "/widget": Example("/widget", {"title": "One"}, {"launcher_label": "Two"}, "shown"),
    "/console/new-account": Example(
        "/console/new-account",
        {"account": "{name}", "name": "One"},
        {"account": "{name}", "name": "Two"},
        "said",
        OLIVIA,
        new_name,
    ),
    "/console/accounts/<account>/limits": of_account({"per_day": "2000001"}, {"concurrent": "7"}, "shown"),
    "/console/accounts/<account>/raise": of_account(
        {"raised_per_minute": "1000001", "raised_per_hour": "1000001", "raised_per_day": "1000001"},
        {"raised_concurrent": "2000"},
        "done",
    ),
    "/console/accounts/<account>/end-raise": Example(
        "/console/accounts/{account}", then="done", person=OLIVIA, prepare=raised_account
    ),
    "/console/accounts/<account>/policy": of_account({"max_days": "30"}, {"max_days": "60"}, "shown"),
    "/console/accounts/<account>/suspend": of_account(CONFIRMED, CONFIRMED, "said"),
    "/console/accounts/<account>/archive": of_account(CONFIRMED, CONFIRMED, "said"),
    "/console/accounts/<account>/resume": of_account({}, {}, "said", "suspend"),
    "/console/accounts/<account>/restore": of_account({}, {}, "said", "archive"),
    "/console/accounts/<account>/keys": Example(
        "/console/accounts/{account}/keys", {"name": "One"}, {"name": "Two"}, "done", OLIVIA, account()
    ),
    "/console/accounts/<account>/keys/<key_id>/pause": Example(
        "/console/accounts/{account}/keys/{key_id}", then="done", person=OLIVIA, prepare=account_with_key
    ),
    "/console/accounts/<account>/keys/<key_id>/resume": Example(
        "/console/accounts/{account}/keys/{key_id}", then="done", person=OLIVIA, prepare=account_with_paused_key
    ),
    "/console/accounts/<account>/keys/<key_id>/revoke": Example(
        "/console/accounts/{account}/keys/{key_id}", then="done", person=OLIVIA, prepare=account_with_key
    ),
    "/console/trail/export": Example("/console/trail", {"format": "csv"}, {"format": "ndjson"}, "done", person=OLIVIA),
    "/console/migrations": Example(
        "/console/migrations",
        {"confirm": ACCOUNT_SCHEMA.head, "account": "acme"},
        {"confirm": ACCOUNT_SCHEMA.head, "account": "globex"},
        "said",
        OLIVIA,
    ),
    "/console/health/measure": Example("/console/health", then="said", person=OLIVIA),
}


@pytest.fixture(autouse=True, scope="module")
def _acme_looks_as_before(harness: AppHarness) -> Iterator[None]:
    """Restore acme's widget for other tests."""
    yield
    with harness.app.app_context():
        response = harness.user(ALICE).patch("/v1/widget-settings", {"title": None, "launcher_label": None})
    assert response.status_code == 200


@pytest.fixture(autouse=True)
def _without_cutoffs(harness: AppHarness) -> Iterator[None]:
    """Alice ends all her sessions. The issuer signs in the same users in the same second."""
    yield
    with harness.services.directory.database.writing() as session:
        ended = session.execute(text("DELETE FROM subject_cutoffs RETURNING subject")).first()
    if ended is not None:
        harness.services.revocation.revoke(EVERYTHING)


def forms(hub: Hub) -> list[str]:
    """All forms except those that a script sends while the user types, and what the issuer's server sends."""
    views = hub.pages.view_functions
    return [
        rule.rule
        for rule in hub.pages.url_map.iter_rules()
        if "POST" in (rule.methods or set())
        and not is_called_while_typing(views[rule.endpoint])
        and not is_called_by_issuer(views[rule.endpoint])
    ]


def test_every_form_has_an_example(hub: Hub) -> None:
    assert sorted(forms(hub)) == sorted(EXAMPLES)


def test_every_form_with_text_fields_can_be_restored(hub: Hub) -> None:
    views = {
        rule.rule: hub.pages.view_functions[rule.endpoint]
        for rule in hub.pages.url_map.iter_rules()
        if "POST" in (rule.methods or set())
    }
    typed = {path for path, example in EXAMPLES.items() if set(example.first) - {"confirm"}} - BUTTONS
    with_secret = {path for path, view in views.items() if takes_a_secret(view)}
    assert {path for path in typed if refill_of(views[path]) is None} == with_secret


@pytest.fixture(autouse=True)
def no_run(hub: Hub, harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Migrations and measurements are requested but not executed: other tests cover them."""
    given_up: list[Callable[[], None]] = []
    monkeypatch.setattr(type(hub.services.runner), "start", lambda _self, _run, gone: given_up.append(gone))
    monkeypatch.setattr(revocation_measurement, "measure_for_console", lambda *_: {})
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        client.delete("hub:turn:measure")
    yield
    for give_up in given_up:
        give_up()


@dataclass
class Tabs:
    """A browser with the same form open twice."""

    browser: HubBrowser
    path: str
    page: str
    first: Form
    second: Form


def open_tabs(hub: Hub, harness: AppHarness, rule: str) -> Tabs:
    example = EXAMPLES[rule]
    browser = hub.browser() if rule == "/sign-in" else hub.signed_in(example.person)
    things = example.prepare(browser, harness)
    path = re.sub(r"<(\w+)>", lambda part: things[part[1]], rule)
    page = example.page.format(**things)
    first, second = (forms_of(browser.get(page).text)[path] for _ in range(2))
    for form, typed in ((first, example.first), (second, example.second)):
        form.fields.update({name: text.format(**things) for name, text in typed.items()})
    return Tabs(browser, path, page, first, second)


def send(browser: HubBrowser, form: Form, **changes: str) -> TestResponse:
    data = {**form.fields, **changes}
    return browser.client.post(form.action, base_url=browser.url, data=data, headers={"Origin": browser.url})


def is_done(response: TestResponse) -> bool:
    """An accepted form redirects to a page of the Hub or to the issuer, shows the created object or its result, or is a
    download."""
    if response.status_code == HTTPStatus.OK and "Whose key is this?" in response.text:
        return "This is not a complete key" in response.text
    return (
        is_download(response)
        or response.status_code in {HTTPStatus.SEE_OTHER, HTTPStatus.CREATED}
        or bool(response.status_code == HTTPStatus.OK and redirect_target(response))
    )


def is_download(response: TestResponse) -> bool:
    return response.status_code == HTTPStatus.OK and "attachment" in response.headers.get("Content-Disposition", "")


def assert_is_page(page: TestResponse) -> None:
    """An HTML page with a heading, without a server error."""
    assert page.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    if page.status_code not in {HTTPStatus.SEE_OTHER} and not is_download(page):
        assert "text/html" in page.content_type
        assert re.search(r"<h1[^>]*>[^<]+</h1>", page.text)


@pytest.mark.parametrize("rule", EXAMPLES)
def test_form_submitted_in_two_tabs(hub: Hub, harness: AppHarness, rule: str) -> None:
    tabs, example = open_tabs(hub, harness, rule), EXAMPLES[rule]
    first = send(tabs.browser, tabs.first)
    assert is_done(first)
    second = send(tabs.browser, tabs.second)
    assert_is_page(second)
    if example.then == "done":
        assert is_done(second)
    elif example.then == "gone":
        assert second.status_code == HTTPStatus.NOT_FOUND
    elif example.then == "shown":
        assert second.status_code == HTTPStatus.CONFLICT
        (name,) = example.first
        offered = forms_of(second.text)[tabs.path].offered
        assert example.first[name] in offered[name]
    else:
        assert second.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT}
        assert re.search(r'role="alert"|<h1[^>]*>This form has expired', second.text)


@pytest.mark.parametrize("rule", [rule for rule in EXAMPLES if rule not in {"/sign-in", "/sign-out"}])
def test_form_submitted_after_the_session_expired(hub: Hub, harness: AppHarness, rule: str) -> None:
    tabs, example = open_tabs(hub, harness, rule), EXAMPLES[rule]
    let_session_expire(harness, hub, tabs.browser)
    response = send(tabs.browser, tabs.first)
    assert response.status_code == HTTPStatus.SEE_OTHER
    sign_in = tabs.browser.get(response.location)
    assert "Your session ended." in sign_in.text
    form = forms_of(sign_in.text)["/sign-in"]
    to_issuer = redirect_target(send(tabs.browser, form))
    page = tabs.browser.get(tabs.browser.sign_in_at_issuer(to_issuer, example.person), follow_redirects=True)
    assert page.status_code == HTTPStatus.OK
    assert_typed(tabs, example, page)


@pytest.mark.parametrize("rule", EXAMPLES)
def test_form_submitted_with_a_foreign_csrf_token(hub: Hub, harness: AppHarness, rule: str) -> None:
    tabs, example = open_tabs(hub, harness, rule), EXAMPLES[rule]
    page = send(tabs.browser, tabs.first, csrf="of another session")
    assert_is_page(page)
    assert page.status_code == HTTPStatus.FORBIDDEN
    assert_typed(tabs, example, page)
    # The first form changed nothing, so the form of the other tab still works.
    assert is_done(send(tabs.browser, tabs.second))


def assert_typed(tabs: Tabs, example: Example, page: TestResponse) -> None:
    """The form contains the entered values. Confirmations must be entered again."""
    if "secret" in example.first:  # is neither kept nor shown
        assert tabs.first.fields["secret"] not in page.text
        return
    typed = {name for name in example.first if name != "confirm"}
    if not typed or tabs.path in BUTTONS:
        return
    found = forms_of(page.text)[tabs.path].fields
    assert {name: found[name] for name in typed} == {name: tabs.first.fields[name] for name in typed}
