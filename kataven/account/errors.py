"""What the verbs inside an account can refuse.

AccountError
├── NotFound              raised when this account's database has no such row
├── Conflict              raised when the current state of a resource does not allow the operation
├── ExpiryExceedsPolicy   raised when a key would outlive the account's policy
└── LimitAboveAccount     raised when a key would get a limit above the account's own
"""

from __future__ import annotations


class AccountError(Exception):
    """Something that was asked of an account can't be done; the text is for the caller to read."""


class NotFound(AccountError):
    """There is no such row in this account's database, whatever another account has."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"There is no such {noun} in this account.")


class Conflict(AccountError):
    """The request is valid, but the current state of the resource does not allow it. The API returns 409 `conflict`.

    Pass a message for the caller that names the resource, its state, and what to do. A mismatched `If-Match` is
    `PreconditionFailed` in `web/problems.py`.
    """


class ExpiryExceedsPolicy(AccountError):
    """The account's policy allows only the expiries in `allowed`."""

    def __init__(self, max_days: int, allowed: list[str]) -> None:
        choice = f"Allowed: {', '.join(allowed)}." if allowed else "None of the expiries is short enough."
        super().__init__(f"Keys of this account live at most {max_days} days. {choice}")
        self.allowed = allowed


class LimitAboveAccount(AccountError):
    """A key can have lower limits than its account, and no higher ones. `name` is that of the limit."""

    def __init__(self, name: str, asked: int, most: int) -> None:
        super().__init__(f"{name} {asked} is above the account's {most}")
        self.name = name
        self.asked = asked
