"""A session that belongs to one account and rejects the rows of other accounts.

A row keeps the account that it was loaded for or first added to, even after its session is closed. It can't enter the
session of another account: adding, deleting and merging raise WrongTenant.
"""

from typing import Any, NoReturn

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from kataven.tenancy.errors import NoTenant, ReadOnlySession, WrongTenant

OWNER = "_tenancy_account"
"""The attribute that holds a row's account."""


class TenantSession(Session):
    """A session on one connection to one account's database; opened by `EngineRegistry`.

    Raises NoTenant without an account, WrongTenant for another account's rows or bind, and ReadOnlySession for a write
    in a read-only session.
    """

    def __init__(self, account: str, connection: Connection, *, read_only: bool, **options: Any) -> None:
        if not account:
            raise NoTenant("a session needs an account")
        super().__init__(bind=connection, **options)
        self.account = account
        self.read_only = read_only

    def get_bind(self, *_: Any, bind: Any = None, **__: Any) -> Any:
        """The session's own connection, for every mapper and statement. Raises WrongTenant for another bind."""
        if bind is not None and bind is not self.bind:
            raise WrongTenant(self.account, "another bind")
        return self.bind

    def claim(self, row: object) -> None:
        """Mark `row` as this account's. Raises WrongTenant if it belongs to another account."""
        owner = vars(row).setdefault(OWNER, self.account)
        if owner != self.account:
            raise WrongTenant(self.account, owner)

    def _execute_internal(self, statement: Any, *parameters: Any, **options: Any) -> Any:
        # execute(), scalars(), scalar(), get() and Query all call this method. The event for it, do_orm_execute, would
        # prepare each statement twice.
        if self.read_only and getattr(statement, "is_dml", False):
            raise ReadOnlySession(self.account)
        return super()._execute_internal(statement, *parameters, **options)

    def _merge(self, state: Any, state_dict: Any, **options: Any) -> Any:
        # merge() copies a row, and other rows through its relationships, without attaching them, so no event fires.
        self.claim(state.obj())
        return super()._merge(state, state_dict, **options)

    def _bulk_save_mappings(self, *_: Any, **__: Any) -> NoReturn:
        # The legacy bulk methods fire no events. `session.execute(insert(…), rows)` does the same and fires them.
        raise NotImplementedError("use execute(insert(…), rows) instead of the bulk methods")


@event.listens_for(TenantSession, "loaded_as_persistent")
@event.listens_for(TenantSession, "before_attach")
def _claim(session: TenantSession, row: object) -> None:
    session.claim(row)


@event.listens_for(TenantSession, "before_flush")
def _reject_flush(session: TenantSession, *_: Any) -> None:
    if session.read_only:
        raise ReadOnlySession(session.account)
