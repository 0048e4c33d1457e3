"""Errors of operations inside an account.

AccountError
├── NotFound              raised if the row does not exist in this account's database
├── Conflict              raised if the current state of a resource does not allow the operation
├── WiderScopes           raised if a key would get more access than it was created with
├── IdempotencyMismatch   raised if an idempotency key was used for another request
├── IdempotencyInProgress raised if another request with the same idempotency key is in progress
├── SecretExpired         raised if a request is repeated too late to return the secret again
├── TooManyIdempotencyKeys  raised if the account has used too many idempotency keys within a day
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


class IdempotencyMismatch(AccountError):
    """The caller has used the idempotency key for another request. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "This `Idempotency-Key` was used for a request with a different body or path. Nothing was changed. Use a "
            "new key for each request, and repeat a request without changes."
        )


class IdempotencyInProgress(AccountError):
    """Another request with the same idempotency key is in progress."""

    def __init__(self) -> None:
        super().__init__("Another request with this `Idempotency-Key` is in progress. Repeat the request later.")


class SecretExpired(AccountError):
    """A request that created a secret is repeated, too late to return the secret again. Nothing was changed."""

    def __init__(self, key_id: object, name: str, hint: str) -> None:
        super().__init__(
            f"The first request with this `Idempotency-Key` succeeded: see the key {name!r} with the id {key_id}. Its "
            f"secret ends in {hint}. The secret is returned again for ten minutes only. If you don't have it, delete "
            "the key, or rotate it, with a new `Idempotency-Key`."
        )


class TooManyIdempotencyKeys(AccountError):
    """The account has used the maximum number of idempotency keys within a day."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The account has used {limit} idempotency keys within 24 hours. Wait, or omit `Idempotency-Key`."
        )


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
