"""Which database is whose: the shape of the answer."""

from dataclasses import dataclass

from sqlalchemy import URL

from kataven.tenancy.names import check_account_name

DRIVER = "postgresql+psycopg2"  # a bare "postgresql" means psycopg 3 since SQLAlchemy 2.1


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account and where its database is. `revision` is what the directory believes its schema to be.

    Raises InvalidAccountName for a name out of form and ValueError for a URL that names no database or another driver.
    """

    account: str
    url: URL
    revision: str | None = None

    def __post_init__(self) -> None:
        check_account_name(self.account)
        if self.url.drivername != DRIVER:
            raise ValueError(f"a tenant's URL starts with {DRIVER}://, not {self.url.drivername}://")
        if not self.url.database:
            raise ValueError("a tenant's URL names its database")
