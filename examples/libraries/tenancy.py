"""One database per customer, with kataven.tenancy alone. Needs DATABASE_URL, a PostgreSQL server."""

import os
from pathlib import Path

from shop_models import Order
from sqlalchemy import make_url, select

from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import InvalidAccountName, TenantUnavailable
from kataven.tenancy.names import DatabaseNames
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry

NAMES = DatabaseNames(prefix="shop", reserved=frozenset({"shop-staff"}))
SCHEMA = Schema(
    "shop",
    "shop_models:Base.metadata",
    versions=Path(__file__).parent / "migrations",
    names=NAMES,
)
server = DatabaseServer(make_url(os.environ["DATABASE_URL"]))
provisioner = Provisioner(server, SCHEMA)
registry = EngineRegistry(PoolLimits(connections=20, connections_per_account=2), schema=SCHEMA)


def create(customer: str) -> Tenant:
    """A complete database, or an error and no database."""
    provisioner.provision(NAMES.check_new(customer))
    return tenant_of(customer)


def tenant_of(customer: str) -> Tenant:
    return Tenant(customer, server.url_of(customer))


if __name__ == "__main__":
    coffee, tea = create("coffee-house"), create("tea-house")
    with registry.writing(coffee) as session:  # one transaction
        session.add(Order(item="espresso"))
    with registry.reading(coffee) as session:
        print("coffee-house:", session.scalars(select(Order.item)).all())
    with registry.reading(tea) as session:
        print("tea-house:", session.scalars(select(Order.item)).all())
    try:
        create("shop-staff")
    except InvalidAccountName as error:  # an error in the input: 400
        print("invalid:", error.reason)
    try:
        with registry.reading(tenant_of("no-house")) as session:
            session.scalars(select(Order.item)).all()
    except TenantUnavailable as error:  # only this customer is affected: 503, with Retry-After
        print("unavailable: retry after", error.retry_after_seconds, "s")
    registry.close()
    for customer in ("coffee-house", "tea-house"):
        provisioner.drop(customer)
