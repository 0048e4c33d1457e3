"""The environment of a development run's processes. Secrets travel in it, never on a command line."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from kataven.dev.errors import DevError
from kataven.dev.files import read_text, write_private
from kataven.dev.issuer import AUDIENCE
from kataven.dev.issuer.tokens import CLIENT_ID
from kataven.dev.options import Options
from kataven.dev.personas import org_id
from kataven.identity import signing
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.settings import SettingsError, load

_NOT_STARTED_YET = {
    "KATAVEN_DATABASE_URL": "postgresql+psycopg2:///kataven_system",
    "KATAVEN_REDIS_URL": "unix:///redis.sock",
}


def hub_url(port: int) -> str:
    """The Hub by another name of this machine than the API's 127.0.0.1: that is how one process tells them apart."""
    return f"http://localhost:{port}"


def development_environment(environ: Mapping[str, str], options: Options, issuer: str) -> dict[str, str]:
    """`environ` with what a development run adds, but for the URLs of servers that it has yet to start.

    Peppers and the other secrets are made once, unless `environ` has some. Raises DevError with a line for each setting
    that the product would refuse.
    """
    ours = {
        "KATAVEN_ENV": "development",
        "KATAVEN_PEPPERS": environ.get("KATAVEN_PEPPERS")
        or _made_once(options.data_dir / "peppers", lambda: f"dev1:{secrets.token_urlsafe(32)}"),
        "KATAVEN_WIDGET_SIGNING_KEYS": environ.get("KATAVEN_WIDGET_SIGNING_KEYS")
        or _made_once(options.data_dir / "widget_signing_keys", lambda: signing.new_key("dev1")),
        "KATAVEN_PUBLIC_URL": f"http://127.0.0.1:{options.port}",
        "KATAVEN_OIDC_ISSUER": issuer,
        "KATAVEN_OIDC_AUDIENCE": AUDIENCE,
        "KATAVEN_DATA_DIR": str(options.data_dir),
        "KATAVEN_HOST_SLOTS_DIR": environ.get("KATAVEN_HOST_SLOTS_DIR") or str(options.data_dir / "slots"),
        "KATAVEN_DUMP_DIR": environ.get("KATAVEN_DUMP_DIR") or str(options.data_dir / "dumps"),
        "KATAVEN_API_URL": f"http://127.0.0.1:{options.port}",
        "KATAVEN_HUB_URL": hub_url(options.port),
        "KATAVEN_HUB_CLIENT_ID": CLIENT_ID,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
        "PORT": str(options.port),
        "WORKERS": str(options.workers),
    }
    everything = {name: value for name, value in environ.items() if value or name not in _NOT_STARTED_YET} | ours
    try:
        load(_NOT_STARTED_YET | everything)
    except SettingsError as error:
        raise DevError(str(error)) from None
    return everything


def write_for_other_shells(environ: Mapping[str, str], path: Path) -> None:
    """Write the product's variables as `KEY=value` lines, mode 0600, for `flask …` in a second shell."""
    lines = (f"{name}={value}\n" for name, value in sorted(environ.items()) if name.startswith("KATAVEN_"))
    write_private(path, "".join(lines))


def _made_once(path: Path, make: Callable[[], str]) -> str:
    """A secret that is made the first time and kept in `path`."""
    kept = (read_text(path) or "").strip()
    if not kept:
        kept = make()
        write_private(path, f"{kept}\n")
    return kept
