"""The errors of this package.

TenancyError
├── NoTenant              a session was requested without a tenant
├── WrongTenant           a row or a bind of one account was passed to a session of another
├── ReadOnlySession       a write in a read-only session
├── RegistryClosed        a session was requested from a closed registry
├── TenantUnavailable     the account's database is unavailable; other accounts are not affected
├── PoolerUnsuitable      a server is reached through a connection pooler in a way that loses guarantees
├── SchemaMismatch        the account's schema is too old or too new for this code, or for one of its statements
│   └── BehindSchema      the schema is served, but this statement needs a newer one
├── ProvisioningError     a database could not be created or removed
│   ├── DatabaseExists
│   ├── ProvisioningInProgress
│   ├── ProgramMissing    pg_dump, pg_restore or psql is missing or too old
│   ├── ProgramFailed     one of these programs failed
│   └── DumpUnreadable    a file is not a dump, or the dump can't be loaded by this release
└── MigrationError        a migration could not be planned, proved or applied
    ├── RunInProgress     another run holds the lock on all accounts
    ├── AccountBusy       another run holds the lock on this account
    ├── RevisionMoved     the database is not at the revision that this step starts from
    └── VerificationFailed  after its migration, the database does not have the expected schema

ValueError
└── InvalidAccountName    the account name is invalid; `reason` may be shown to the user
    └── ReservedAccountName

A handler that maps TenancyError to 503 therefore never hides an invalid name, which is an error in the input (400).
"""


class TenancyError(Exception):
    """The base class of the package's errors; never raised itself."""


class NoTenant(TenancyError):
    """Raised when a session is requested without a tenant. This is a programming error; no default tenant exists."""


class WrongTenant(TenancyError):
    """Raised when a row or a bind of one account is passed to a session of another."""

    def __init__(self, session_account: str, other_account: str) -> None:
        super().__init__(f"a session of account {session_account!r} received a row or bind of {other_account!r}")
        self.session_account = session_account
        self.other_account = other_account


class ReadOnlySession(TenancyError):
    """Raised for a write in a read-only session."""

    def __init__(self, account: str) -> None:
        super().__init__(f"the session of account {account!r} is read-only: use writing()")


class RegistryClosed(TenancyError):
    """Raised when a session is requested from a closed registry."""


class InvalidAccountName(ValueError):
    """Raised for an invalid account name. Not a TenancyError. `reason` is a sentence for the user."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name
        self.reason = reason


class ReservedAccountName(InvalidAccountName):
    """Raised for a valid name that is reserved for Kataven Hub or PostgreSQL."""


class TenantUnavailable(TenancyError):
    """Raised when an account's database is unavailable. Retry after `retry_after_seconds`."""

    def __init__(self, account: str, reason: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"the database of account {account!r} is unavailable: {reason}")
        self.account = account
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class PoolerUnsuitable(TenancyError):
    """Raised when a connection pooler would lose a guarantee. The message names the problem and the fix."""


class SchemaMismatch(TenancyError):
    """Raised when this code can't serve an account's schema. `have` is None if the database has no schema."""

    def __init__(self, account: str, have: str | None, serve: str) -> None:
        super().__init__(f"account {account!r} is at schema {have or 'none'}; this code serves {serve}")
        self.account = account
        self.have = have
        self.serve = serve


class BehindSchema(SchemaMismatch):
    """Raised when this code serves the account's schema, but a statement needs a newer one."""

    def __init__(self, account: str, have: str, needed: str) -> None:
        TenancyError.__init__(self, f"account {account!r} is at schema {have}; this request needs {needed}")
        self.account = account
        self.have = have
        self.serve = needed


class ProvisioningError(TenancyError):
    """Raised when a database could not be created or removed. No incomplete database has an account's name."""


class DatabaseExists(ProvisioningError):
    """Raised when the database to create already exists."""


class ProvisioningInProgress(ProvisioningError):
    """Raised while another process creates or removes the same database."""


class ProgramMissing(ProvisioningError):
    """Raised when a PostgreSQL client program is missing or older than the server."""


class ProgramFailed(ProvisioningError):
    """Raised when a PostgreSQL client program fails, with the line of its output that gives the reason."""


class DumpUnreadable(ProvisioningError):
    """Raised when a file can't be read, or its schema revision is unknown to this release."""


class MigrationError(TenancyError):
    """Raised when a migration can't be planned, proved or applied."""


class RunInProgress(MigrationError):
    """Raised when another migration run holds the lock on all accounts."""


class AccountBusy(MigrationError):
    """Raised while another run migrates this account."""


class RevisionMoved(MigrationError):
    """Raised when a database is not at the revision that the next step starts from."""


class VerificationFailed(MigrationError):
    """Raised when a database does not have the expected schema after its migration."""
