"""What lies beside an account's dump: what the system database knows of the account, so that it can be made again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from kataven.operations.account_creation import NewAccount
from kataven.system import accounts, limits
from kataven.system.models import AccountRateLimits
from kataven.tenancy.databases.dumps import Dump
from kataven.tenancy.errors import DumpUnreadable

FORMAT = 1


@dataclass(frozen=True, slots=True)
class DumpManifest:
    """An account as it was when it was dumped. No credential is in here; the keys' hashes are in the dump."""

    account: str
    name: str
    org_id: str | None
    discoverable: bool
    max_key_expiry_days: int | None
    limits: dict[str, int]
    revision: str | None

    def as_json(self, dump: Dump) -> str:
        return json.dumps({"format": FORMAT, "sha256": dump.sha256, **asdict(self)}, indent=2) + "\n"

    def as_new_account(self, account: str, org_id: str | None, server: str | None) -> NewAccount:
        """The account to make from this, under another name or organisation if they are given."""
        return NewAccount(
            account,
            self.name,
            org_id or self.org_id,
            server,
            self.discoverable,
            self.max_key_expiry_days,
            self.limits,
        )


def manifest_of(session: Session, account: str) -> DumpManifest:
    """Raises NoSuchAccount."""
    row = accounts.read(session, account)
    own = session.get(AccountRateLimits, account)
    return DumpManifest(
        account=row.account_id,
        name=row.account_name,
        org_id=row.zitadel_org_id,
        discoverable=row.discoverable,
        max_key_expiry_days=row.max_key_expiry_days,
        limits={} if own is None else asdict(limits.limits_of(own)),
        revision=row.schema_revision,
    )


def read_manifest(dump: Dump) -> DumpManifest | None:
    """Those that were written with the dump; None if there are none.

    Raises DumpUnreadable if they are not of this dump, which then is not what was once written.
    """
    try:
        said: dict[str, Any] = json.loads(dump.manifest.read_text(encoding="utf-8"))
        kind, sha256 = said.pop("format"), said.pop("sha256")
        notes = DumpManifest(**said)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DumpUnreadable(f"{dump.manifest} can't be read; move it away to load the dump without it") from None
    if kind != FORMAT or sha256 != dump.sha256:
        raise DumpUnreadable(f"{dump.path} is not the dump that {dump.manifest.name} was written with: it is damaged")
    return notes
