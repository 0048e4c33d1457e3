"""A failed sign-in: its reason, and the issuer's error, cleaned for the log."""

from __future__ import annotations

import re

from kataven.hub.sign_in_reasons import MESSAGES, OF_CHECKS, OF_ERRORS, Reason
from kataven.logs import redact

__all__ = ["Reason", "SignInFailed"]

MAX_DESCRIPTION_LENGTH = 200
_MAX_WORD_LENGTH = 48
_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNPRINTED = re.compile(r"[^\x20-\x7e]")
"""RFC 6749, section 5.2, allows only these characters in an `error_description`."""
_PRIVATE = re.compile(rf"\S*@\S*|\S{{{_MAX_WORD_LENGTH + 1},}}")
"""An email address, or a word that is long enough to be a code or a token."""


class SignInFailed(Exception):
    """The issuer's response can't start a session. The text may be shown to the user."""

    def __init__(
        self,
        reason: Reason,
        *,
        check: str | None = None,
        error: object = None,
        description: object = None,
        subject: str | None = None,
    ) -> None:
        """`check` names the failed check; `error` and `description` come from the issuer and are cleaned here."""
        super().__init__(MESSAGES[reason].user)
        self.reason = reason
        self.check = check
        self.error = clean_code(error)
        self.description = clean_description(description)
        self.subject = subject

    @property
    def advice(self) -> str | None:
        """Advice for the administrator. It contains no text from the request."""
        of_check = None if self.check is None else OF_CHECKS.get(self.reason, {}).get(self.check)
        if of_check is not None:
            return of_check
        of_error = None if self.error is None else OF_ERRORS.get(self.error)
        if of_error is not None and self.reason in {Reason.REFUSED, Reason.TOKENS_REFUSED}:
            return of_error
        return MESSAGES[self.reason].admin

    def for_log(self) -> dict[str, str | None]:
        """The fields of the log line: no token, and no personal data except the subject."""
        return {
            "reason": self.reason.value,
            "check": self.check,
            "error": self.error,
            "error_description": self.description,
            "sub": self.subject,
        }


def clean_code(text: object) -> str | None:
    """An issuer's `error`, or None if it isn't a well-formed error code."""
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def clean_description(text: object) -> str | None:
    """An issuer's `error_description`: at most 200 printable ASCII characters, without addresses and long words."""
    if not isinstance(text, str):
        return None
    printed = _UNPRINTED.sub("?", redact(text[: 4 * MAX_DESCRIPTION_LENGTH]))
    return _PRIVATE.sub("[redacted]", printed)[:MAX_DESCRIPTION_LENGTH] or None
