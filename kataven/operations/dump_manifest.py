"""The manifest of a dump: a JSON file with the properties of the account that are needed to recreate it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from kataven.operations.account_creation import NewAccount
from kataven.system import accounts, limits, rotation_policy
from kataven.system.models import AccountRateLimits
from kataven.tenancy.databases.dumps import Dump
from kataven.tenancy.errors import DumpUnreadable

FORMAT = 1


@dataclass(frozen=True, slots=True)
class DumpManifest:
    """The properties of an account when it was dumped. It contains no credentials; the dump contains keys' hashes."""

    account: str
    name: str
    org_id: str | None
    discoverable: bool
    max_key_expiry_days: int | None
    limits: dict[str, int]
    revision: str | None
    rotate_after_days: int | None = None
    """Missing in manifests of earlier releases."""

    def as_json(self, dump: Dump) -> str:
        return json.dumps({"format": FORMAT, "sha256": dump.sha256, **asdict(self)}, indent=2) + "\n"

    def as_new_account(self, account: str, org_id: str | None, server: str | None) -> NewAccount:
        """The account to create, with this name; `org_id` replaces the organisation if it is given."""
        return NewAccount(
            account,
            self.name,
            org_id or self.org_id,
            server,
            self.discoverable,
            self.max_key_expiry_days,
            self.limits,
            self.rotate_after_days,
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
        rotate_after_days=rotation_policy.read(session, account),
    )


def read_manifest(dump: Dump) -> DumpManifest | None:
    """Read the manifest of a dump; None if the file does not exist.

    Raises DumpUnreadable if the manifest is invalid, or if its digest is not that of the dump: one of them has changed.
    """
    try:
        fields: dict[str, Any] = json.loads(dump.manifest.read_text(encoding="utf-8"))
        version, sha256 = fields.pop("format"), fields.pop("sha256")
        manifest = DumpManifest(**fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DumpUnreadable(
            f"{dump.manifest} is not a valid manifest; move it away to load the dump without it"
        ) from None
    if version != FORMAT or sha256 != dump.sha256:
        raise DumpUnreadable(f"{dump.path} does not match the digest in {dump.manifest.name}: it is damaged")
    return manifest
