"""`dev.json`: where a development run is, and the keys of its accounts, for scripts and for the next run.

Nothing else keeps the keys in plaintext, so they must outlast a run that fails half-way; and who sees a `dev.json` may
believe that its run came up. So from the start of a run until it serves, the file is called `dev.json.next`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kataven.dev.errors import DevError
from kataven.dev.files import read_text, write_private


@dataclass(frozen=True)
class AccountKeys:
    """An account with its keys in plaintext."""

    account: str
    api_key: str
    widget_key: str

    def __repr__(self) -> str:
        return f"AccountKeys({self.account})"


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


def remembered_accounts(data_dir: Path) -> dict[str, AccountKeys]:
    """The accounts and keys of the last run, by account; none before the first. DevError if they can't be read."""
    for path in (_final(data_dir), _pending(data_dir)):
        text = read_text(path)
        if text is not None:
            return _accounts(path, text)
    return {}


def set_aside(data_dir: Path) -> None:
    """A run begins: what the last one wrote is kept, but not under the name that says it serves."""
    if _final(data_dir).exists():
        _final(data_dir).replace(_pending(data_dir))


def write_pending(data_dir: Path, run: DevRun) -> None:
    """Keep what the run will write, mode 0600, before it serves."""
    write_private(_pending(data_dir), json.dumps(asdict(run), indent=2) + "\n")


def publish(data_dir: Path) -> None:
    """The run serves: from now on its `dev.json` is there."""
    _pending(data_dir).replace(_final(data_dir))


def _final(data_dir: Path) -> Path:
    return data_dir / "dev.json"


def _pending(data_dir: Path) -> Path:
    return data_dir / "dev.json.next"


def _accounts(path: Path, text: str) -> dict[str, AccountKeys]:
    try:
        return {row["account"]: AccountKeys(**row) for row in json.loads(text)["accounts"]}
    except (ValueError, KeyError, TypeError):
        raise DevError(f"{path} is damaged; repair it, or remove it to get new keys") from None
