"""The location of an account's database."""

from dataclasses import dataclass

from sqlalchemy import URL

from kataven.tenancy.names import check_account_name

DRIVER = "postgresql+psycopg2"  # a bare "postgresql" means psycopg 3 since SQLAlchemy 2.1


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account and the URL of its database. `revision` is its schema revision according to the directory.

    Raises InvalidAccountName for an invalid name, ValueError for a URL without a database or with another driver.
    """

    account: str
    url: URL
    revision: str | None = None

    def __post_init__(self) -> None:
        check_account_name(self.account)
        if self.url.drivername != DRIVER:
            raise ValueError(f"a tenant's URL must start with {DRIVER}://, not {self.url.drivername}://")
        if not self.url.database:
            raise ValueError("a tenant's URL must name its database")
