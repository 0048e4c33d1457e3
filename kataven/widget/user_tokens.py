"""User tokens: a customer's server vouches for a user, and the user's browser shows that once, within five minutes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from kataven.widget import opaque_tokens
from kataven.widget.capacity import SessionCounters, refusal
from kataven.widget.errors import (
    UserTokenExpired,
    UserTokenOfAnotherAccount,
    UserTokenUnknown,
    UserTokenUsed,
    WidgetRefused,
)
from kataven.widget.store import StoreScript, WidgetStore

TTL_SECONDS = 300
REMEMBERED_SECONDS = 3_600
"""So long a token's end has a name: afterwards it is one that we know nothing of."""

_ISSUE = StoreScript("issue")
_REDEEM = StoreScript("redeem")
_REFUSALS: dict[str, type[WidgetRefused]] = {
    "unknown": UserTokenUnknown,
    "account": UserTokenOfAnotherAccount,
    "used": UserTokenUsed,
    "expired": UserTokenExpired,
}


@dataclass(frozen=True, slots=True)
class UserTokenSubject:
    """Who a user is, by the word of the customer's server that showed the API key `minted_by`."""

    minted_by: str
    external_user_id: str
    display_name: str | None = None
    email: str | None = None


class UserTokens:
    """In Redis, under the token's digest, and gone with it: a token that Redis forgot is refused."""

    def __init__(self, store: WidgetStore) -> None:
        self._store = store

    def issue(self, account: str, user: UserTokenSubject) -> str:
        """A new user token. Raises StoreUnavailable."""
        token = opaque_tokens.new_user_token()
        lives = [TTL_SECONDS * 1000, REMEMBERED_SECONDS * 1000]
        minted = json.dumps(asdict(user), ensure_ascii=False)
        self._store.run(_ISSUE, [self._key(token)], [account, minted, *lives, self._store.now()])
        return token

    def redeem(self, account: str, token: str, session_counters: SessionCounters | None = None) -> UserTokenSubject:
        """Who it stands for, to the first who asks. It stays good if `room` has none for one more visit.

        Raises UserTokenUnknown, UserTokenUsed, UserTokenExpired, UserTokenOfAnotherAccount, TooManyVisits or
        StoreUnavailable. If the answer is lost on its way here the token is used up all the same.
        """
        if not opaque_tokens.is_user_token(token):
            raise UserTokenUnknown
        counters, limits = (
            (session_counters.counters, session_counters.limits) if session_counters is not None else ((), ())
        )
        found = self._store.run(_REDEEM, [self._key(token), *counters], [account, self._store.now(), *limits])
        state, *rest = found
        if state == "full":
            raise refusal(found)
        if state != "good" or not rest or rest[0] is None:
            raise _REFUSALS[str(state)]
        return UserTokenSubject(**json.loads(rest[0]))

    def _key(self, token: str) -> str:
        return self._store.key("user-token", opaque_tokens.digest(token))
