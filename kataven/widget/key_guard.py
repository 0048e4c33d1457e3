"""A page that shows a widget key: may it, and which agent does it show? The checks that every way in has in common.

    shape of the key       no I/O at all: done before anything else, by whoever reads the request
    key and account        one indexed SELECT in the account's own database, every time
    origin                 against the key's list, before anything is minted
    agent                  the pinned one, or the one that the page names
    kind of visitor        what the agent takes

Nothing of this is remembered between requests: what somebody has just switched off is off.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import api_keys, branding, widget_keys
from kataven.account.branding import Branding
from kataven.account.models import Agent, AgentStatus, WidgetAuthMode, WidgetKey
from kataven.identity.issuer import Issuer
from kataven.identity.peppers import KeyHash
from kataven.identity.token import Token
from kataven.system.directory import AccountRecord, Directory
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.widget import allowlist
from kataven.widget.allowlist import Origin
from kataven.widget.errors import (
    AccountClosed,
    AgentMissing,
    AgentNotActive,
    MintingKeyEnded,
    OriginRefused,
    UnknownAgent,
    UnknownWidgetKey,
    VisitorKindForbidden,
    WidgetKeyDisabled,
    WidgetOff,
    WrongAgent,
)
from kataven.widget.visitor_tokens import VisitorKind, VisitorSession

KINDS: dict[str, frozenset[VisitorKind]] = {
    WidgetAuthMode.GUEST: frozenset({VisitorKind.GUEST}),
    WidgetAuthMode.USER: frozenset({VisitorKind.USER}),
    WidgetAuthMode.BOTH: frozenset(VisitorKind),
}


@dataclass(frozen=True, slots=True)
class PublicAgent:
    """What visitors may know of an agent."""

    id: UUID
    name: str
    greeting_message: str | None
    greeting_mode: str


@dataclass(frozen=True, slots=True)
class WidgetPage:
    """A page that a key serves, and the agent on it."""

    account: str
    widget_key_id: UUID
    generation: int
    origin: Origin
    agent: PublicAgent
    kinds: frozenset[VisitorKind]
    """The kinds of visitor that the agent takes."""

    def require(self, kind: VisitorKind) -> None:
        """Raises VisitorKindForbidden."""
        if kind not in self.kinds:
            taken = " and ".join(sorted(self.kinds))
            raise VisitorKindForbidden(f"This agent takes visitors of the kind {taken}, and no {kind}s.")


class WidgetKeyGuard:
    """Lets pages through. Its methods raise the refusals above, TenancyError or VerifierUnavailable."""

    def __init__(self, directory: Directory, registry: EngineRegistry, issuer: Issuer) -> None:
        self._directory = directory
        self._registry = registry
        self._issuer = issuer

    def admit(self, token: Token, origin: Origin | None, agent_id: UUID | None) -> WidgetPage:
        """A page that shows the widget key `token`."""
        account = self._account(token.account)
        candidates = self._issuer.candidates(token.text)
        with self._reading(account) as session:
            key = widget_keys.find(session, candidates)
            if key is None:
                raise UnknownWidgetKey
            stored = KeyHash(key.pepper_id, bytes(key.key_hash))
            page = _page(session, account, key, origin, agent_id)
        if stored.pepper_id != candidates[0].pepper_id:
            with self._registry.writing(account.tenant) as writing:
                widget_keys.rehash(writing, page.widget_key_id, stored, candidates[0])
        return page

    def admit_again(self, visit: VisitorSession, origin: Origin | None) -> None:
        """A visit that is under way: everything that let it in must still be so, and the page must be the same."""
        account = self._account(visit.account)
        with self._reading(account) as session:
            key = session.get(WidgetKey, UUID(visit.widget_key_id))
            if key is None:
                raise UnknownWidgetKey
            if key.generation != visit.generation:
                raise WidgetKeyDisabled("This widget key was disabled after the visit began. Begin again.")
            page = _page(session, account, key, origin, UUID(visit.agent_id))
            if visit.minted_by is not None:
                _require_usable(session, visit.minted_by)
        if str(page.origin) != visit.origin:
            raise OriginRefused(f"This visit began on {visit.origin} and can't go on at {page.origin}.")
        page.require(visit.visitor.kind)

    def require_minting_key(self, account_name: str, key_id: str) -> None:
        """The API key that vouched for a user is still good. Raises MintingKeyEnded."""
        with self._reading(self._account(account_name)) as session:
            _require_usable(session, key_id)

    def branding(self, account_name: str) -> Branding:
        """How the account wants its widget to look."""
        with self._reading(self._account(account_name)) as session:
            return branding.read(session)

    def _account(self, name: str) -> AccountRecord:
        account = self._directory.find(name)
        if account is None:
            raise UnknownWidgetKey
        if not account.open:
            raise AccountClosed
        return account

    def _reading(self, account: AccountRecord) -> AbstractContextManager[Session]:
        return self._registry.reading(account.tenant)


def _page(
    session: Session, account: AccountRecord, key: WidgetKey, origin: Origin | None, agent_id: UUID | None
) -> WidgetPage:
    if key.disabled_at is not None:
        raise WidgetKeyDisabled
    came_from = _require_listed(key, origin)
    agent = session.get(Agent, _choose(key, agent_id))
    if agent is None:
        raise UnknownAgent
    if agent.status != AgentStatus.ACTIVE:
        raise AgentNotActive(f"The agent is not active: it is {agent.status}.")
    if not agent.widget_enabled:
        raise WidgetOff
    face = PublicAgent(agent.id, agent.name, agent.greeting_message, agent.greeting_mode)
    return WidgetPage(account.account, key.id, key.generation, came_from, face, KINDS[agent.widget_auth_mode])


def _require_listed(key: WidgetKey, origin: Origin | None) -> Origin:
    if origin is None:
        raise OriginRefused
    if not key.domain_allowlist:
        raise OriginRefused("This widget key lists no domains, so it serves no page. Add some to its domain_allowlist.")
    if not allowlist.admits(map(allowlist.parse_entry, key.domain_allowlist), origin):
        raise OriginRefused(f"This widget key does not serve {origin}: its domain_allowlist does not list it.")
    return origin


def _choose(key: WidgetKey, asked_for: UUID | None) -> UUID:
    chosen = key.agent_id or asked_for
    if chosen is None:
        raise AgentMissing
    if asked_for not in (None, chosen):
        raise WrongAgent
    return chosen


def _require_usable(session: Session, key_id: str) -> None:
    if not api_keys.is_usable(session, UUID(key_id)):
        raise MintingKeyEnded
