"""The location of an account's database."""

from dataclasses import dataclass, replace

from sqlalchemy import URL

from kataven.tenancy.names import check_account_name

DRIVER = "postgresql+psycopg2"  # a bare "postgresql" means psycopg 3 since SQLAlchemy 2.1


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account and the URL of its database. `revision` is its schema revision according to the directory.

    If `url` leads to a connection pooler, `direct_url` is the URL of the same database past the pooler.

    Raises InvalidAccountName for an invalid name, ValueError for a URL without a database or with another driver.
    """

    account: str
    url: URL
    revision: str | None = None
    direct_url: URL | None = None

    @property
    def pooled(self) -> bool:
        """Whether `url` leads to a connection pooler."""
        return self.direct_url is not None

    def past_pooler(self) -> "Tenant":
        """The same database, for what needs a session of PostgreSQL itself, such as migrations."""
        return self if self.direct_url is None else replace(self, url=self.direct_url, direct_url=None)

    def __post_init__(self) -> None:
        check_account_name(self.account)
        if self.url.drivername != DRIVER:
            raise ValueError(f"a tenant's URL must start with {DRIVER}://, not {self.url.drivername}://")
        if not self.url.database:
            raise ValueError("a tenant's URL must name its database")
        if self.direct_url is not None and self.direct_url.database != self.url.database:
            raise ValueError("a tenant's direct URL must name the same database")
