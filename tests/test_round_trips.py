"""How many database round trips a request needs: each costs network latency, and an additional one is easy to miss."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url, text

from kataven import assembly, settings
from kataven.authservice.remembered_accounts import RememberingVerifier
from kataven.dev.personas import ALICE
from kataven.identity.credential import ApiKeyCredential, JwtCredential
from kataven.identity.verifier import LocalVerifier
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.registry import EngineRegistry
from tests.support.app_harness import AppHarness
from tests.tenancy.proxy import CountingProxy


@pytest.fixture(scope="module")
def proxy(harness: AppHarness) -> Iterator[CountingProxy]:
    with CountingProxy(make_url(harness.environ["KATAVEN_DATABASE_URL"])) as proxy:
        yield proxy


@pytest.fixture(params=["direct", "pooled"])
def verifier(request: pytest.FixtureRequest, harness: AppHarness, proxy: CountingProxy) -> Iterator[LocalVerifier]:
    """As in the auth-service: without a lease, so that nothing is cached."""
    url = proxy.url.render_as_string(hide_password=False)
    environ = {**harness.environ, "KATAVEN_DATABASE_URL": url}
    if request.param == "pooled":
        environ["KATAVEN_DIRECT_DATABASE_URL"] = harness.environ["KATAVEN_DATABASE_URL"]
    configured = settings.load(environ)
    parts = assembly.foundation(configured)
    yield assembly.local_verifier(configured, parts)
    parts.registry.close()
    parts.directory.database.close()


def test_cache_miss_queries_the_account_and_the_key(
    harness: AppHarness, verifier: LocalVerifier, proxy: CountingProxy
) -> None:
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    verifier.verify(credential)  # connects
    before = proxy.round_trips
    verifier.verify(credential)
    assert proxy.round_trips - before == 2


def test_cache_miss_of_the_auth_service_queries_the_key_only_if_the_account_is_confirmed(
    harness: AppHarness, verifier: LocalVerifier, proxy: CountingProxy
) -> None:
    remembering = RememberingVerifier(verifier)
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    remembering.verify(credential)  # connects
    version = harness.services.directory.version("acme")
    for confirmed, round_trips in ((b"", 2), (b"another", 2), (version, 1)):
        before = proxy.round_trips
        remembering.verify(credential, confirmed or b"")
        assert proxy.round_trips - before == round_trips


def test_a_users_token_queries_the_account_and_the_users_cutoffs_in_one_statement(
    harness: AppHarness, verifier: LocalVerifier, proxy: CountingProxy
) -> None:
    credential = JwtCredential(harness.issuer.token(ALICE), "acme")
    verifier.verify(credential)  # connects
    before = proxy.round_trips
    verifier.verify(credential)
    assert proxy.round_trips - before == 1


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_sessions_need_the_same_round_trips_through_a_pooler(
    harness: AppHarness, proxy: CountingProxy, pooled: bool
) -> None:
    """The timeouts and checks of a pooled transaction are sent with its first statement."""
    record = harness.services.directory.read("acme")
    assert record is not None
    url, registry, statement = proxy.url.set(database="acme"), EngineRegistry(), text("SELECT 1")
    tenant = Tenant("acme", url, direct_url=record.tenant.url if pooled else None)
    counts = {}
    for name in ("reading", "autocommit", "writing"):
        opened = getattr(registry, name)
        with opened(tenant) as session:  # connects
            session.execute(statement)
        before = proxy.round_trips
        with opened(tenant) as session:
            session.execute(statement)
            session.execute(statement)
        counts[name] = proxy.round_trips - before
    registry.close()
    assert counts == {"reading": 2, "autocommit": 2, "writing": 4}
