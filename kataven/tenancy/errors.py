"""Everything this room can refuse, drawn as one family.

TenancyError
├── NoTenant              a session was asked for without saying whose
├── WrongTenant           a row, or a bind, of one account met the session of another
├── ReadOnlySession       a write through `reading()`, which has no transaction to undo it
├── RegistryClosed        a session was asked of a registry that has been closed
├── InvalidAccountName    the name can't be an account's; `reason` may be shown to the user
│   └── ReservedAccountName
├── TenantUnavailable     this account's database can't answer now; the others can
├── SchemaMismatch        the account's schema is too old or too new for this code, or for one of its statements
│   └── BehindSchema      the schema is served, but it has not yet what this statement needs
├── ProvisioningError     a database could not be made or removed
│   ├── DatabaseExists
│   ├── ProvisioningInProgress
│   ├── ProgramMissing    pg_dump, pg_restore or psql is not there, or too old
│   ├── ProgramFailed     one of them said no
│   └── DumpUnreadable    a file is no dump, or not one that can be loaded here
└── MigrationError        a migration could not be planned, proved or applied
    ├── RunInProgress     another run holds the lock over all accounts
    ├── AccountBusy       another run holds the lock of this account
    ├── RevisionMoved     the database is not at the revision that this step starts from
    └── VerificationFailed  the database does not say what the migration should have left
"""


class TenancyError(Exception):
    """The root of the family; never raised itself."""


class NoTenant(TenancyError):
    """Raised when a session is asked for without a tenant: a programming error, never a default."""


class WrongTenant(TenancyError):
    """Raised when a row or a bind of one account is given to the session of another."""

    def __init__(self, session_account: str, other_account: str) -> None:
        super().__init__(f"a session of account {session_account!r} was given something of {other_account!r}")
        self.session_account = session_account
        self.other_account = other_account


class ReadOnlySession(TenancyError):
    """Raised when something is written through `reading()`."""

    def __init__(self, account: str) -> None:
        super().__init__(f"the session of account {account!r} only reads: open it with writing()")


class RegistryClosed(TenancyError):
    """Raised when a closed registry is asked for a session."""


class InvalidAccountName(TenancyError):
    """Raised for a name that no account can have. `reason` is a sentence for the user."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name
        self.reason = reason


class ReservedAccountName(InvalidAccountName):
    """Raised for a well-formed name that the product or PostgreSQL keeps for itself."""


class TenantUnavailable(TenancyError):
    """Raised when one account's database can't answer now. `retry_after_seconds` is when to ask again."""

    def __init__(self, account: str, reason: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"the database of account {account!r} is unavailable: {reason}")
        self.account = account
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class SchemaMismatch(TenancyError):
    """Raised when an account's schema is one that this code can't serve; `have` is None for no schema at all."""

    def __init__(self, account: str, have: str | None, serve: str) -> None:
        super().__init__(f"account {account!r} is at schema {have or 'none'}, and this code serves {serve}")
        self.account = account
        self.have = have
        self.serve = serve


class BehindSchema(SchemaMismatch):
    """Raised when this code serves the account's schema, but not with this statement, which needs a newer one."""

    def __init__(self, account: str, have: str, needed: str) -> None:
        TenancyError.__init__(self, f"account {account!r} is at schema {have}, and this request needs {needed}")
        self.account = account
        self.have = have
        self.serve = needed


class ProvisioningError(TenancyError):
    """Raised when a database could not be made or removed; nothing half-made is left under an account's name."""


class DatabaseExists(ProvisioningError):
    """Raised when the database to be made is already there."""


class ProvisioningInProgress(ProvisioningError):
    """Raised when another process is making or removing the same database at this moment."""


class ProgramMissing(ProvisioningError):
    """Raised when a program of PostgreSQL's that is needed is not there, or is older than the server."""


class ProgramFailed(ProvisioningError):
    """Raised when a program of PostgreSQL's ends with an error, with the line in which it says why."""


class DumpUnreadable(ProvisioningError):
    """Raised when a file can't be read as a dump, or the dump is not one that can be loaded here."""


class MigrationError(TenancyError):
    """Raised when a migration can't be planned, proved or applied."""


class RunInProgress(MigrationError):
    """Raised when another run over the accounts holds the lock."""


class AccountBusy(MigrationError):
    """Raised when another run is migrating this account at this moment."""


class RevisionMoved(MigrationError):
    """Raised when a database is not at the revision that the next step starts from."""


class VerificationFailed(MigrationError):
    """Raised when, after its migration, a database does not say what it should."""
