"""The people of every local run and of the tests, and the organisations that they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.identity.principal import Role


def org_id(account: str) -> str:
    """The id that an account's organisation has at the development issuer."""
    return f"org-{account}"


@dataclass(frozen=True, slots=True)
class Persona:
    """Somebody who can sign in, and the one role that they hold."""

    subject: str
    name: str
    account: str
    role: Role

    @property
    def email(self) -> str:
        return f"{self.subject}@{self.account}.example"


ALICE = Persona("alice", "Alice", "acme", Role.OWNER)
BOB = Persona("bob", "Bob", "acme", Role.MEMBER)
CHARLIE = Persona("charlie", "Charlie", "globex", Role.OWNER)
OLIVIA = Persona("olivia", "Olivia", OPERATORS_ACCOUNT, Role.OPERATOR)

CAST = (ALICE, BOB, CHARLIE, OLIVIA)
