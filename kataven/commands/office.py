"""What the commands on accounts act with: who they are, and what reaches into an account's database for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from kataven.account import api_keys, revival
from kataven.account.audit import Actor
from kataven.system.closing import Office, StandingKeys
from kataven.system.dumping import DumpStore
from kataven.system.sessions import AccountSessions
from kataven.tenancy.programs import Programs
from kataven.web.services import services

ACTOR = "cli"
OPERATOR = Actor(f"operator:{ACTOR}", ACTOR)

_EXTENSION = "kataven-tools"


@dataclass(frozen=True, slots=True)
class Tools:
    """What is on this machine beside the product."""

    programs: Programs
    dump_dir: Path

    def attach(self, app: Flask) -> None:
        app.extensions[_EXTENSION] = self


def tools() -> Tools:
    """Those of the application that the command belongs to."""
    found: Tools = current_app.extensions[_EXTENSION]
    return found


def store(folder: Path | None = None) -> DumpStore:
    """Where dumps are put: `folder`, else as the settings say."""
    return DumpStore(tools().programs, folder or tools().dump_dir)


def office() -> Office:
    """Whoever types the command, acting on accounts from outside them."""
    found = services()
    sessions = AccountSessions(found.directory, found.registry)

    def cap_expiry(account: str, max_days: int) -> int:
        with sessions.writing(account) as session:
            return api_keys.cap_expiry(session, max_days, OPERATOR)

    return Office(ACTOR, found.directory.database, cap_expiry, found.revocation.revoke, _standing_keys, _end_other_keys)


def _standing_keys(connection: Connection) -> StandingKeys:
    with Session(connection) as session:
        return revival.standing_keys(session)


def _end_other_keys(connection: Connection, standing: StandingKeys) -> int:
    with Session(connection) as session:
        ended = revival.end_other_keys(session, standing, OPERATOR)
        session.flush()
    return ended
