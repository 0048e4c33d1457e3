"""A session that knows whose it is, and will not touch anybody else's rows.

A row remembers the account it was loaded for or first added to, also after its session is closed. Whatever the code
around does with it, it can't enter the session of another account: adding, deleting and merging refuse it.
"""

from typing import Any, NoReturn

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from kataven.tenancy.errors import NoTenant, ReadOnlySession, WrongTenant

OWNER = "_tenancy_account"
"""Where a row remembers its account."""


class TenantSession(Session):
    """A session on one connection to one account's database; made by `EngineRegistry.reading` and `.writing`.

    Raises NoTenant without an account, WrongTenant for another account's rows or bind, and, opened for reading,
    ReadOnlySession for whatever would write.
    """

    def __init__(self, account: str, connection: Connection, *, read_only: bool, **options: Any) -> None:
        if not account:
            raise NoTenant("a session belongs to an account")
        super().__init__(bind=connection, **options)
        self.account = account
        self.read_only = read_only

    def get_bind(self, *_: Any, bind: Any = None, **__: Any) -> Any:
        """Its own connection, whichever mapper or statement asks. Raises WrongTenant if told to use another."""
        if bind is not None and bind is not self.bind:
            raise WrongTenant(self.account, "another bind")
        return self.bind

    def claim(self, row: object) -> None:
        """Mark `row` as this account's. Raises WrongTenant if it is another's."""
        owner = vars(row).setdefault(OWNER, self.account)
        if owner != self.account:
            raise WrongTenant(self.account, owner)

    def _execute_internal(self, statement: Any, *parameters: Any, **options: Any) -> Any:
        # Where execute(), scalars(), scalar(), get() and Query meet. The event for it, do_orm_execute, would have each
        # statement prepared twice.
        if self.read_only and getattr(statement, "is_dml", False):
            raise ReadOnlySession(self.account)
        return super()._execute_internal(statement, *parameters, **options)

    def _merge(self, state: Any, state_dict: Any, **options: Any) -> Any:
        # merge() copies a row, and through its relationships other rows, without attaching any: no event sees them.
        self.claim(state.obj())
        return super()._merge(state, state_dict, **options)

    def _bulk_save_mappings(self, *_: Any, **__: Any) -> NoReturn:
        # The legacy bulk methods write past every event; `session.execute(insert(…), rows)` does the same and is seen.
        raise NotImplementedError("use execute(insert(…), rows) instead of the bulk methods")


@event.listens_for(TenantSession, "loaded_as_persistent")
@event.listens_for(TenantSession, "before_attach")
def _claim(session: TenantSession, row: object) -> None:
    session.claim(row)


@event.listens_for(TenantSession, "before_flush")
def _refuse_flush(session: TenantSession, *_: Any) -> None:
    if session.read_only:
        raise ReadOnlySession(session.account)
