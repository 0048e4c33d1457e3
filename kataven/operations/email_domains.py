"""Sets the e-mail domains of an account, with an event in the operator audit log."""

from __future__ import annotations

from collections.abc import Sequence

from kataven.operations.operator import Operator
from kataven.system import accounts, email_domains, operators
from kataven.system.errors import SystemRefusal


class InvalidDomains(SystemRefusal):
    """The message names the domain and the fix."""


def read(operator: Operator, account: str) -> Sequence[str]:
    """The domains of an account, in order. Raises NoSuchAccount."""
    with operator.system.reading() as session:
        accounts.read(session, account)
        return email_domains.read(session, account)


def change(operator: Operator, account: str, given: Sequence[str]) -> Sequence[str]:
    """Set the domains of an account. Returns them. Raises InvalidDomains, NoSuchAccount or SystemSchemaBehind."""
    domains = []
    for text in given:
        domain = email_domains.parse_domain(text)
        if domain is None:
            raise InvalidDomains(f"{text!r} is not a domain. Pass the part after the @, such as acme.com.")
        domains.append(domain)
    if len(set(domains)) > email_domains.MAX_DOMAINS:
        raise InvalidDomains(f"An account can have {email_domains.MAX_DOMAINS} e-mail domains at most.")
    with operator.system.writing() as session:
        email_domains.replace(session, account, domains)
        detail = {"email_domains": sorted(set(domains))}
        operators.record(session, operator.name, "account.policy_changed", account, detail)
    return sorted(set(domains))
