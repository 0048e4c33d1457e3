"""Tokens of *Try it* at `/docs`: valid for five minutes, for one account and in one session of the Hub.

A token is not a credential of the API, and grants nothing without the session's cookie, whose secret encrypts it. See
decision 104.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from kataven.hub.sealing import seal, unseal
from kataven.hub.sessions import Session

TRY_SECONDS: Final = 5 * 60
MAX_TOKEN_LENGTH: Final = 512
_PURPOSE: Final = b"kataven hub try it"


def issue_try_token(session: Session, now: float) -> str:
    """A token for the user and the account of this session."""
    content = str(int(now) + TRY_SECONDS).encode()
    return base64.urlsafe_b64encode(seal(content, session.secret, _name(session), _PURPOSE)).decode()


def is_valid_try_token(token: str, session: Session, now: float) -> bool:
    """Whether the token was issued for the user, the account and the session, less than five minutes ago."""
    if len(token) > MAX_TOKEN_LENGTH:
        return False
    try:
        sealed = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    content = unseal(sealed, session.secret, _name(session), _PURPOSE)
    return content is not None and now < int(content)


def _name(session: Session) -> str:
    """What the token is bound to. A token for another user or account can't be decrypted."""
    return json.dumps([session.user.subject if session.user is not None else None, session.account])
