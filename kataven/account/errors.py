"""Errors of operations inside an account.

AccountError
├── NotFound              raised if the row does not exist in this account's database
├── Conflict              raised if the current state of a resource does not allow the operation
├── WiderScopes           raised if a key would get more access than it was created with
├── ExpiryExceedsPolicy   raised if the requested expiry exceeds the account's policy
└── LimitAboveAccount     raised if a key's limit would exceed the account's limit

ChangeLost                raised if a committed change does not exist any more
"""

from __future__ import annotations


class AccountError(Exception):
    """An operation on an account was rejected. The message is shown to the caller."""


class NotFound(AccountError):
    """The row does not exist in this account's database. Other accounts are not searched."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"This account has no such {noun}.")


class Conflict(AccountError):
    """The request is valid, but the current state of the resource does not allow it. The API returns 409 `conflict`.

    Pass a message for the caller that names the resource, its state, and what to do. A mismatched `If-Match` is
    `PreconditionFailed` in `web/problems.py`.
    """


class WiderScopes(AccountError):
    """The scopes of an existing key can only be reduced."""

    def __init__(self) -> None:
        super().__init__("can only be reduced. Create a new API key with these scopes")


class ExpiryExceedsPolicy(AccountError):
    """The account's policy allows only the expiries in `allowed`."""

    def __init__(self, max_days: int, allowed: list[str]) -> None:
        choice = f"Allowed: {', '.join(allowed)}." if allowed else "No available expiry is short enough."
        super().__init__(f"The requested expiry exceeds the account's policy of at most {max_days} days. {choice}")
        self.allowed = allowed


class LimitAboveAccount(AccountError):
    """A limit of a key exceeds the account's limit. `name` is the name of the limit."""

    def __init__(self, name: str, requested: int, limit: int) -> None:
        super().__init__(f"{name} {requested} exceeds the account's limit of {limit}")
        self.name = name
        self.requested = requested


class ChangeLost(Exception):
    """A change that was committed does not exist any more: the database failed over and lost the commit.

    Asynchronous replication allows this. The caller must send the request again.
    """
