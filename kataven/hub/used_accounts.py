"""The accounts that were used in this browser, offered by the sign-in page. A cookie with nothing but their names.

The names grant nothing, and each is validated when it is read, so the cookie is not signed. Scripts can't read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.session_middleware import hub_services
from kataven.identity.token import is_account_name

COOKIE: Final = "kataven-accounts"
MAX_ACCOUNTS: Final = 5
_PATH = "/"
"""The callback of a sign-in adds to the list, so it needs the cookie too."""
_SEPARATOR = "."
_HALF_YEAR_SECONDS = 180 * 24 * 3600


def used_accounts() -> Sequence[str]:
    """The names, the latest first."""
    names = request.cookies.get(COOKIE, "").split(_SEPARATOR)[:MAX_ACCOUNTS]
    return list(dict.fromkeys(name for name in names if is_account_name(name)))


def remember(response: AnyResponse, account: str) -> None:
    """Put an account at the top of the list."""
    _store(response, [account, *(name for name in used_accounts() if name != account)][:MAX_ACCOUNTS])


def forget(response: AnyResponse, account: str) -> None:
    """Remove an account from the list."""
    _store(response, [name for name in used_accounts() if name != account])


def _store(response: AnyResponse, names: Sequence[str]) -> None:
    secure = hub_services().secure
    if not names:
        response.delete_cookie(COOKIE, path=_PATH, httponly=True, secure=secure, samesite="Lax")
        return
    response.set_cookie(
        COOKIE,
        _SEPARATOR.join(names),
        max_age=_HALF_YEAR_SECONDS,
        path=_PATH,
        httponly=True,
        secure=secure,
        samesite="Lax",
    )
