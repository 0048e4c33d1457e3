"""`dev.json`: the URLs of a development run and the keys of its accounts, for scripts and for the next run.

The keys are stored in plaintext only here, so they must survive a run that fails during startup. And a `dev.json` must
mean that the run serves requests. During startup the file is therefore named `dev.json.next`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import read_text, write_private


@dataclass(frozen=True)
class AccountKeys:
    """An account and its keys in plaintext."""

    account: str
    api_key: str = field(repr=False)
    widget_key: str = field(repr=False)


@dataclass(frozen=True)
class DevRun:
    """The content of `dev.json`."""

    api_url: str
    hub_url: str
    database_url: str
    redis_url: str
    oidc_issuer: str
    widget_demo_url: str
    accounts: tuple[AccountKeys, ...]


def stored_accounts(data_dir: Path) -> dict[str, AccountKeys]:
    """The keys of the last run, by account. Raises DevError if they cannot be read."""
    for path in (_final(data_dir), _pending(data_dir)):
        text = read_text(path)
        if text is not None:
            try:
                return {row["account"]: AccountKeys(**row) for row in json.loads(text)["accounts"]}
            except (ValueError, KeyError, TypeError):
                raise DevError(f"{path} is damaged; repair it, or remove it to create new keys") from None
    return {}


def unpublish(data_dir: Path) -> None:
    """Rename the last run's file at startup, which keeps its keys."""
    if _final(data_dir).exists():
        _final(data_dir).replace(_pending(data_dir))


def write_pending(data_dir: Path, run: DevRun) -> None:
    """Store `run`, mode 0600, before it serves requests."""
    write_private(_pending(data_dir), json.dumps(asdict(run), indent=2) + "\n")


def publish(data_dir: Path) -> None:
    """Rename the pending file to `dev.json`, when the run serves requests."""
    _pending(data_dir).replace(_final(data_dir))


def _final(data_dir: Path) -> Path:
    return data_dir / "dev.json"


def _pending(data_dir: Path) -> Path:
    return data_dir / "dev.json.next"
