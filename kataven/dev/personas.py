"""The users of local runs and of tests, and their organisations."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.identity.principal import Role


def org_id(account: str) -> str:
    """The id of an account's organisation at the development issuer."""
    return f"org-{account}"


@dataclass(frozen=True, slots=True)
class Persona:
    """A user who can sign in, with one role in one account."""

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

PERSONAS = (ALICE, BOB, CHARLIE, OLIVIA)
