"""Isolation under load: many threads, evictions, a dropped database and forgotten engines; no row crosses accounts."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.testing import account_of, assert_no_leaks, check_canary
from tests.tenancy.conftest import MakeRegistry, MakeTenant, drop_database
from tests.tenancy.models import Note

THREADS, TURNS = 16, 24


def test_no_row_crosses_from_one_account_to_another(
    make_registry: MakeRegistry,
    tenants: list[Tenant],
    acme: Tenant,
    globex: Tenant,
    make_tenant: MakeTenant,
    postgres: EmbeddedPostgres,
) -> None:
    registry = make_registry(PoolLimits(engines=5, connections=6, wait=30))
    dropped = make_tenant("dropped")
    all_tenants = [*tenants, dropped]
    written: dict[str, int] = {tenant.account: 0 for tenant in all_tenants}
    counting = threading.Lock()

    def turn(tenant: Tenant) -> None:
        with registry.writing(tenant) as session:
            check_canary(session)
            session.add(Note(text=tenant.account))
        with counting:
            written[tenant.account] += 1
        with registry.reading(tenant) as session:
            check_canary(session)
            notes = session.scalars(select(Note)).all()
            assert {(note.text, account_of(note)) for note in notes} == {(tenant.account, tenant.account)}

    def work(thread: int) -> int:
        generator, rejected = random.Random(thread), 0  # noqa: S311 - the same sequence each time
        for _ in range(TURNS):
            tenant = generator.choice(all_tenants)
            try:
                turn(tenant)
            except TenantUnavailable:
                if tenant is not dropped:
                    raise
                rejected += 1
            if generator.random() < 0.05:
                registry.forget(tenant.account)
        return rejected

    with ThreadPoolExecutor(THREADS) as pool:
        working = [pool.submit(work, thread) for thread in range(THREADS)]
        while registry.metrics().evictions < 10:
            pass
        drop_database(postgres, "dropped")
        assert sum(thread.result() for thread in working) > 0
    assert_no_leaks(registry)
    assert registry.metrics().evictions > 50
    for tenant in tenants:
        with registry.writing(tenant) as session:
            assert len(session.scalars(select(Note.id)).all()) == written[tenant.account] > 0
            session.execute(text("TRUNCATE notes, tags RESTART IDENTITY"))
