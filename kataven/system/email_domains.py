"""The e-mail domains of accounts. After a sign-in with an e-mail address, they choose among the user's accounts.

They grant no access. They are read only after the issuer has authenticated the user, so that an unauthenticated client
can't find out which domains are known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kataven.system import accounts
from kataven.system.errors import SystemSchemaBehind
from kataven.system.models import AccountEmailDomain
from kataven.system.schema import system_has, system_revision

SINCE = "system_0011"
MAX_DOMAINS = 50
"""Per account."""
_DOMAIN = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")


def parse_domain(text: str) -> str | None:
    """The domain in lower case, with international names in Punycode; None if it is not a domain."""
    try:
        domain = text.strip().rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        return None
    return domain if _DOMAIN.fullmatch(domain) else None


def read(session: Session, account: str) -> Sequence[str]:
    """The domains of an account, in order. None before `system_0011`."""
    if not system_has(session, SINCE):
        return ()
    found = select(AccountEmailDomain.domain).where(AccountEmailDomain.account_id == account)
    return session.scalars(found.order_by(AccountEmailDomain.domain)).all()


def replace(session: Session, account: str, domains: Collection[str]) -> None:
    """Set the domains of an account. Raises NoSuchAccount or SystemSchemaBehind."""
    if not system_has(session, SINCE):
        raise SystemSchemaBehind(system_revision(session), SINCE)
    accounts.read(session, account, lock=True)
    session.execute(delete(AccountEmailDomain).where(AccountEmailDomain.account_id == account))
    session.add_all(AccountEmailDomain(account_id=account, domain=domain) for domain in sorted(set(domains)))


def matching(session: Session, names: Collection[str], domain: str) -> Sequence[str]:
    """Those of these accounts that have the domain, in order. None before `system_0011`."""
    if not names or not system_has(session, SINCE):
        return ()
    found = select(AccountEmailDomain.account_id).where(
        AccountEmailDomain.account_id.in_(names), AccountEmailDomain.domain == domain
    )
    return session.scalars(found.order_by(AccountEmailDomain.account_id)).all()
