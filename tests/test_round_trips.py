"""How many database round trips a request needs: each costs network latency, and an additional one is easy to miss."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from kataven import assembly, settings
from kataven.identity.credential import ApiKeyCredential
from kataven.identity.verifier import LocalVerifier
from tests.support.app_harness import AppHarness
from tests.tenancy.proxy import CountingProxy


@pytest.fixture(scope="module")
def proxy(harness: AppHarness) -> Iterator[CountingProxy]:
    with CountingProxy(make_url(harness.environ["KATAVEN_DATABASE_URL"])) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def verifier(harness: AppHarness, proxy: CountingProxy) -> Iterator[LocalVerifier]:
    """As in the auth-service: without a lease, so that nothing is cached."""
    url = proxy.url.render_as_string(hide_password=False)
    configured = settings.load({**harness.environ, "KATAVEN_DATABASE_URL": url})
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
