"""The five ways to meet a visitor, each a list of steps. Whatever fails, nothing has been minted.

config      which widget to draw
guest       a visitor whom nobody vouches for
vouch       a customer's server vouches for a user
exchange    that user's browser comes in
refresh     whoever came in stays, if all that let them in is still so
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
    """What a visitor gets: a token for the voice edge, and one to get the next with."""

    visitor_token: str
    refresh_token: str
    visit: VisitorSession


@dataclass(frozen=True)
class Widget:
    """The collaborators of one process. Its methods raise WidgetRefused, StoreUnavailable and what the gate raises."""

    gate: WidgetKeyGuard
    store: WidgetStore
    ring: SigningRing | None
    """None: this installation lets no visitors in."""
    public_url: str
    """Where browsers reach the API; it stands as `iss` in visitor tokens."""
    voice_url: str | None
    """Where conversations are held; None if nowhere yet."""
    capacity: Capacity = field(default_factory=Capacity)
    clock: Callable[[], float] = time.time

    def config(self, key: Token, origin: Origin | None, agent_id: UUID | None) -> tuple[WidgetPage, Branding]:
        """What to draw on a page."""
        page = self.gate.admit(key, origin, agent_id)
        return page, self.gate.branding(page.account)

    def guest(self, key: Token, origin: Origin | None, agent_id: UUID | None) -> VisitorTokens:
        """Let a stranger in."""
        signing_key = self._signing_key()
        page = self.gate.admit(key, origin, agent_id)
        page.require(VisitorKind.GUEST)
        return self._begin(signing_key, _visit(page, Visitor(VisitorKind.GUEST, str(uuid4()))))

    def vouch(self, account: str, user: UserTokenSubject) -> str:
        """A user token for somebody whom the caller, an API key, knows."""
        self._signing_key()
        return UserTokens(self.store).issue(account, user)

    def exchange(self, key: Token, user_token: str, origin: Origin | None, agent_id: UUID | None) -> VisitorTokens:
        """Let a user in. The user token is used up only if the page is one that may show it."""
        signing_key = self._signing_key()
        page = self.gate.admit(key, origin, agent_id)
        page.require(VisitorKind.USER)
        session_counters = self.capacity.session_counters(self.store, page.account, str(page.widget_key_id))
        user = UserTokens(self.store).redeem(page.account, user_token, session_counters)
        self.gate.require_minting_key(page.account, user.minted_by)
        visitor = Visitor(VisitorKind.USER, user.external_user_id, user.display_name, user.email)
        return self._begin(signing_key, _visit(page, visitor, user.minted_by))

    def refresh(self, refresh_token: str, origin: Origin | None) -> VisitorTokens:
        """The next pair. A token that was used before ends its family first of all, wherever it is shown."""
        signing_key = self._signing_key()
        families = Families(self.store, self.capacity)
        visit = families.look(refresh_token)
        self.gate.admit_again(visit, origin)
        following = families.rotate(refresh_token, visit)
        return self._admitted(signing_key, visit, following)

    def _begin(self, signing_key: SigningKey, visit: VisitorSession) -> VisitorTokens:
        return self._admitted(signing_key, visit, Families(self.store, self.capacity).begin(visit))

    def _admitted(self, signing_key: SigningKey, visit: VisitorSession, refresh_token: str) -> VisitorTokens:
        token = visitor_tokens.sign(signing_key, self.public_url, visit, self.clock())
        return VisitorTokens(token, refresh_token, visit)

    def _signing_key(self) -> SigningKey:
        if self.ring is None:
            raise WidgetNotConfigured
        return self.ring.current


def _visit(page: WidgetPage, visitor: Visitor, minted_by: str | None = None) -> VisitorSession:
    return VisitorSession(
        account=page.account,
        widget_key_id=str(page.widget_key_id),
        generation=page.generation,
        agent_id=str(page.agent.id),
        origin=str(page.origin),
        visitor=visitor,
        minted_by=minted_by,
    )
