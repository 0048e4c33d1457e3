"""What the verbs inside an account can refuse.

AccountError
├── NotFound              raised when this account's database has no such row
└── ExpiryExceedsPolicy   raised when a key would outlive the account's policy
"""

from __future__ import annotations


class AccountError(Exception):
    """Something that was asked of an account can't be done; the text is for the caller to read."""


class NotFound(AccountError):
    """There is no such row in this account's database, whatever another account has."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"There is no such {noun} in this account.")


class ExpiryExceedsPolicy(AccountError):
    """The account's policy allows only the expiries in `allowed`."""

    def __init__(self, max_days: int, allowed: list[str]) -> None:
        choice = f"Allowed: {', '.join(allowed)}." if allowed else "None of the expiries is short enough."
        super().__init__(f"Keys of this account live at most {max_days} days. {choice}")
        self.allowed = allowed
