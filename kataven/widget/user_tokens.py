"""User tokens. A customer's server creates one for a user, whose browser exchanges it once, within five minutes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from kataven.widget import opaque_tokens
from kataven.widget.capacity import SessionCounters, too_many_sessions
from kataven.widget.errors import (
    UserTokenExpired,
    UserTokenOfAnotherAccount,
    UserTokenUnknown,
    UserTokenUsed,
    WidgetRefused,
)
from kataven.widget.store import WidgetStore, store_script

TTL_SECONDS = 300
REMEMBERED_SECONDS = 3_600
"""How long a used or expired token is reported as such. Afterwards it is reported as unknown."""

_ISSUE = store_script("issue")
_REDEEM = store_script("redeem")
_ERRORS: dict[str, type[WidgetRefused]] = {
    "unknown": UserTokenUnknown,
    "account": UserTokenOfAnotherAccount,
    "used": UserTokenUsed,
    "expired": UserTokenExpired,
}


@dataclass(frozen=True, slots=True)
class UserTokenSubject:
    """A user, as described by the customer's server that used the API key `minted_by`."""

    minted_by: str
    external_user_id: str
    display_name: str | None = None
    email: str | None = None


class UserTokens:
    """User tokens in Redis, by digest. A token that is not stored is rejected."""

    def __init__(self, store: WidgetStore) -> None:
        self._store = store

    def issue(self, account: str, user: UserTokenSubject) -> str:
        """Create a user token. Raises StoreUnavailable."""
        token = opaque_tokens.new_user_token()
        lifetimes = [TTL_SECONDS * 1000, REMEMBERED_SECONDS * 1000]
        record = json.dumps(asdict(user), ensure_ascii=False)
        self._store.run(_ISSUE, [self._key(token)], [account, record, *lifetimes, self._store.now()])
        return token

    def redeem(self, account: str, token: str, session_counters: SessionCounters | None = None) -> UserTokenSubject:
        """Use a token. Returns its user. The token remains valid if one of `session_counters` is at its limit.

        Raises UserTokenUnknown, UserTokenUsed, UserTokenExpired, UserTokenOfAnotherAccount, TooManySessions or
        StoreUnavailable. If the reply of Redis is lost, the token is used nevertheless.
        """
        if not opaque_tokens.is_user_token(token):
            raise UserTokenUnknown
        counters, limits = (
            (session_counters.counters, session_counters.limits) if session_counters is not None else ((), ())
        )
        found = self._store.run(_REDEEM, [self._key(token), *counters], [account, self._store.now(), *limits])
        state, *rest = found
        if state == "full":
            raise too_many_sessions(found)
        if state != "good" or not rest or rest[0] is None:
            raise _ERRORS[str(state)]
        return UserTokenSubject(**json.loads(rest[0]))

    def _key(self, token: str) -> str:
        return self._store.key("user-token", opaque_tokens.digest(token))
