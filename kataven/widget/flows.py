"""The five operations of the widget. Each checks everything before it issues a token.

config              returns the configuration of a page's widget
guest               creates a session for an anonymous visitor
create_user_token   creates a user token for a customer's server
exchange            exchanges a user token for a session
refresh             extends a session if all conditions for it still hold
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from kataven.account.branding import Branding
from kataven.identity.signing import SigningKey, SigningRing
from kataven.identity.token import Token
from kataven.widget import visitor_tokens
from kataven.widget.allowlist import Origin
from kataven.widget.capacity import Capacity
from kataven.widget.errors import WidgetNotConfigured
from kataven.widget.families import Families
from kataven.widget.key_guard import WidgetKeyGuard, WidgetPage
from kataven.widget.store import WidgetStore
from kataven.widget.user_tokens import UserTokens, UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession


@dataclass(frozen=True, slots=True)
class VisitorTokens:
    """A visitor token for the voice edge, and the refresh token for the next one."""

    visitor_token: str
    refresh_token: str
    visitor_session: VisitorSession


@dataclass(frozen=True)
class Widget:
    """The operations with their dependencies. They raise WidgetRefused, StoreUnavailable and errors of `key_guard`."""

    key_guard: WidgetKeyGuard
    store: WidgetStore
    ring: SigningRing | None
    """None if this installation issues no visitor tokens."""
    public_url: str
    """The public URL of the API, which is the `iss` claim of visitor tokens."""
    voice_url: str | None
    """The URL of the voice edge; None if it is not configured."""
    capacity: Capacity = field(default_factory=Capacity)
    clock: Callable[[], float] = time.time

    def config(self, key: Token, origin: Origin | None, agent_id: UUID | None) -> tuple[WidgetPage, Branding]:
        """The agent and the branding for a page."""
        page = self.key_guard.admit(key, origin, agent_id)
        return page, self.key_guard.branding(page.account)

    def guest(self, key: Token, origin: Origin | None, agent_id: UUID | None) -> VisitorTokens:
        """Create a guest session."""
        signing_key = self._signing_key()
        page = self.key_guard.admit(key, origin, agent_id)
        page.require(VisitorKind.GUEST)
        return self._start_session(signing_key, _session_from(page, Visitor(VisitorKind.GUEST, str(uuid4()))))

    def create_user_token(self, account: str, user: UserTokenSubject) -> str:
        """Create a user token. The caller authenticated with an API key."""
        self._signing_key()
        return UserTokens(self.store).issue(account, user)

    def exchange(self, key: Token, user_token: str, origin: Origin | None, agent_id: UUID | None) -> VisitorTokens:
        """Exchange a user token for a session. The token is used only if the page is allowed."""
        signing_key = self._signing_key()
        page = self.key_guard.admit(key, origin, agent_id)
        page.require(VisitorKind.USER)
        session_counters = self.capacity.session_counters(self.store, page.account, str(page.widget_key_id))
        user = UserTokens(self.store).redeem(page.account, user_token, session_counters)
        self.key_guard.require_creating_key(page.account, user.minted_by)
        visitor = Visitor(VisitorKind.USER, user.external_user_id, user.display_name, user.email)
        return self._start_session(signing_key, _session_from(page, visitor, user.minted_by))

    def refresh(self, refresh_token: str, origin: Origin | None) -> VisitorTokens:
        """The next pair of tokens. Reuse of a refresh token ends its family before any other check, on any page."""
        signing_key = self._signing_key()
        families = Families(self.store, self.capacity)
        visitor_session = families.read(refresh_token)
        self.key_guard.recheck(visitor_session, origin)
        next_token = families.rotate(refresh_token, visitor_session)
        return self._issue_tokens(signing_key, visitor_session, next_token)

    def _start_session(self, signing_key: SigningKey, visitor_session: VisitorSession) -> VisitorTokens:
        return self._issue_tokens(
            signing_key, visitor_session, Families(self.store, self.capacity).create(visitor_session)
        )

    def _issue_tokens(
        self, signing_key: SigningKey, visitor_session: VisitorSession, refresh_token: str
    ) -> VisitorTokens:
        token = visitor_tokens.sign(signing_key, self.public_url, visitor_session, self.clock())
        return VisitorTokens(token, refresh_token, visitor_session)

    def _signing_key(self) -> SigningKey:
        if self.ring is None:
            raise WidgetNotConfigured
        return self.ring.current


def _session_from(page: WidgetPage, visitor: Visitor, minted_by: str | None = None) -> VisitorSession:
    return VisitorSession(
        account=page.account,
        widget_key_id=str(page.widget_key_id),
        generation=page.generation,
        agent_id=str(page.agent.id),
        origin=str(page.origin),
        visitor=visitor,
        minted_by=minted_by,
    )
