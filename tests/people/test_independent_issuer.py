"""The bar of a key, for a user: an independent provider signs the owner out, and no later request is accepted.

`python -m bench.people --rounds 300` runs the same for more users.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import people
from bench.people import Site
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import org_id
from kataven.operations import account_creation
from kataven.system import limits
from kataven.system.database import SystemDatabase
from tests.support.app_harness import PLENTY, environ_for
from tests.support.independent_issuer import IndependentIssuers

pytestmark = [pytest.mark.programs, pytest.mark.node]

ACCOUNT = "signed-out"
"""Not acme: the databases of the shared harness are on the same server."""


@pytest.fixture(scope="module")
def site(
    postgres: EmbeddedPostgres,
    shared_redis: EmbeddedRedis,
    independent_issuers: IndependentIssuers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    environ = environ_for(postgres, shared_redis.url, "https://replaced.example", "kataven_people")
    account_creation.prepare_system(environ["KATAVEN_DATABASE_URL"])
    database = SystemDatabase(environ["KATAVEN_DATABASE_URL"])
    account_creation.create(database, account_creation.NewAccount(ACCOUNT, "Signed out", org_id(ACCOUNT)), actor="test")
    with database.writing() as session:
        limits.change(session, ACCOUNT, PLENTY)
    database.close()
    log = tmp_path_factory.mktemp("people") / "log"
    with people.open_site(environ, log, independent_issuers, ACCOUNT) as site:
        yield site


def test_no_request_that_starts_after_a_sign_out_at_the_provider_is_accepted(site: Site) -> None:
    score = people.run(site, rounds=4, threads=4)
    assert score.passed
    assert set(score.before) == {200}
    assert sum(score.after.values()) == 4 * 4 * people.REQUESTS_AFTER
    assert set(score.after) <= people.REFUSED
