"""The checks of a page with a widget key that all widget operations share.

    key syntax             checked without I/O when the request is parsed
    key and account        one indexed SELECT in the account's database
    origin                 compared with the key's allowlist, before any token is issued
    agent                  the pinned agent, or the one that the page names
    visitor type           the types that the agent allows

Results are not cached, so disabling a key or a widget takes effect immediately.
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
    AgentMissing,
    AgentNotActive,
    CreatingKeyInvalid,
    OriginRefused,
    RefusedPage,
    UnknownAgent,
    UnknownWidgetKey,
    VisitorKindForbidden,
    WidgetAccountSuspended,
    WidgetDisabled,
    WidgetKeyDisabled,
    WrongAgent,
)
from kataven.widget.visitor_tokens import VisitorKind, VisitorSession

CREATE_USER_TOKENS = "widget-sessions:write"
"""The scope of an API key that creates user tokens. If the key loses it, the visitor sessions of its users end."""

KINDS: dict[str, frozenset[VisitorKind]] = {
    WidgetAuthMode.GUEST: frozenset({VisitorKind.GUEST}),
    WidgetAuthMode.USER: frozenset({VisitorKind.USER}),
    WidgetAuthMode.BOTH: frozenset(VisitorKind),
}


@dataclass(frozen=True, slots=True)
class PublicAgent:
    """The public fields of an agent."""

    id: UUID
    name: str
    greeting_message: str | None
    greeting_mode: str


@dataclass(frozen=True, slots=True)
class WidgetPage:
    """A page that a widget key serves, with its agent."""

    account: str
    widget_key_id: UUID
    generation: int
    origin: Origin
    agent: PublicAgent
    kinds: frozenset[VisitorKind]
    """The visitor types that the agent allows."""

    def require(self, kind: VisitorKind) -> None:
        """Raises VisitorKindForbidden."""
        if kind not in self.kinds:
            allowed = " and ".join(sorted(self.kinds))
            raise VisitorKindForbidden(f"Visitor type {kind} is not allowed. The agent allows: {allowed}.")


class WidgetKeyGuard:
    """Checks pages. Its methods raise the errors of `kataven.widget.errors`, TenancyError or VerifierUnavailable."""

    def __init__(self, directory: Directory, registry: EngineRegistry, issuer: Issuer) -> None:
        self._directory = directory
        self._registry = registry
        self._issuer = issuer

    def admit(self, token: Token, origin: Origin | None, agent_id: UUID | None) -> WidgetPage:
        """Check the page that sends the widget key `token`."""
        account = self._account(token.account)
        candidates = self._issuer.candidates(token.text)
        with self._reading(account) as session:
            key = widget_keys.find(session, candidates)
            if key is None:
                raise UnknownWidgetKey
            stored = KeyHash(key.pepper_id, bytes(key.key_hash))
            self._require_not_journalled(account, key)
            page = _page(session, account, key, origin, agent_id)
        if stored.pepper_id != candidates[0].pepper_id:
            with self._registry.writing(account.tenant) as writing:
                widget_keys.rehash(writing, page.widget_key_id, stored, candidates[0])
        return page

    def recheck(self, visitor_session: VisitorSession, origin: Origin | None) -> None:
        """Check a running visitor session again: all conditions must still hold, and the page must be the same."""
        account = self._account(visitor_session.account)
        with self._reading(account) as session:
            key = session.get(WidgetKey, UUID(visitor_session.widget_key_id))
            if key is None:
                raise UnknownWidgetKey
            if key.generation != visitor_session.generation:
                raise WidgetKeyDisabled(
                    "The widget key was disabled after the visitor session started. Start a new visitor session."
                )
            self._require_not_journalled(account, key)
            page = _page(session, account, key, origin, UUID(visitor_session.agent_id))
            if visitor_session.minted_by is not None:
                self._require_usable(session, account, visitor_session.minted_by)
        if str(page.origin) != visitor_session.origin:
            raise OriginRefused(
                f"This visitor session started on {visitor_session.origin} and can't continue on {page.origin}."
            )
        page.require(visitor_session.visitor.kind)

    def require_creating_key(self, account_name: str, key_id: str) -> None:
        """Check the API key that created a user token. Raises CreatingKeyInvalid."""
        account = self._account(account_name)
        with self._reading(account) as session:
            self._require_usable(session, account, key_id)

    def branding(self, account_name: str) -> Branding:
        """The branding of the account's widget."""
        with self._reading(self._account(account_name)) as session:
            return branding.read(session)

    def _account(self, name: str) -> AccountRecord:
        account = self._directory.find(name)
        if account is None:
            raise UnknownWidgetKey
        if not account.open:
            raise WidgetAccountSuspended
        return account

    def _require_not_journalled(self, account: AccountRecord, key: WidgetKey) -> None:
        """The account's database may have lost the commit that disabled or removed the key."""
        listed = account.revoked_keys
        if self._directory.is_journalled(account.account, listed, str(key.id), key.generation):
            raise WidgetKeyDisabled

    def _require_usable(self, session: Session, account: AccountRecord, key_id: str) -> None:
        journalled = self._directory.is_journalled(account.account, account.revoked_keys, key_id)
        if journalled or not api_keys.is_usable(session, UUID(key_id), CREATE_USER_TOKENS):
            raise CreatingKeyInvalid

    def _reading(self, account: AccountRecord) -> AbstractContextManager[Session]:
        return self._registry.reading(account.tenant)


def _page(
    session: Session, account: AccountRecord, key: WidgetKey, origin: Origin | None, agent_id: UUID | None
) -> WidgetPage:
    if key.disabled_at is not None:
        raise WidgetKeyDisabled
    allowed_origin = _require_allowed(account.account, key, origin)
    agent = session.get(Agent, _select_agent(key, agent_id))
    if agent is None:
        raise UnknownAgent
    if agent.status != AgentStatus.ACTIVE:
        raise AgentNotActive(f"The agent is not active: it is {agent.status}.")
    if not agent.widget_enabled:
        raise WidgetDisabled
    public_agent = PublicAgent(agent.id, agent.name, agent.greeting_message, agent.greeting_mode)
    return WidgetPage(
        account.account, key.id, key.generation, allowed_origin, public_agent, KINDS[agent.widget_auth_mode]
    )


def _require_allowed(account: str, key: WidgetKey, origin: Origin | None) -> Origin:
    if origin is None:
        raise OriginRefused
    page = RefusedPage(account, key.id, str(origin))
    if not key.domain_allowlist:
        message = "The widget key's domain_allowlist is empty, so it serves no page. Add the page's domain."
        raise OriginRefused(message, page)
    if not allowlist.allows(map(allowlist.parse_entry, key.domain_allowlist), origin):
        raise OriginRefused(f"The widget key does not serve {origin}. Add it to the key's domain_allowlist.", page)
    return origin


def _select_agent(key: WidgetKey, requested: UUID | None) -> UUID:
    chosen = key.agent_id or requested
    if chosen is None:
        raise AgentMissing
    if requested not in (None, chosen):
        raise WrongAgent
    return chosen
