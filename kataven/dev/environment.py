"""The environment variables of a development run's processes. Secrets go into the environment, not the command line."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import read_text, write_private
from kataven.dev.issuer import AUDIENCE, CLIENT_ID
from kataven.dev.options import Options
from kataven.dev.personas import org_id
from kataven.identity import signing
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.settings import SettingsError, load

_PLACEHOLDERS = {
    "KATAVEN_DATABASE_URL": "postgresql+psycopg2:///kataven_system",
    "KATAVEN_REDIS_URL": "unix:///redis.sock",
}
"""For the validation of settings before the servers are started."""


def hub_url(port: int) -> str:
    """The Hub's URL. Its host name differs from the API's 127.0.0.1, because one process serves both by host name."""
    return f"http://localhost:{port}"


def development_environment(environ: Mapping[str, str], options: Options, issuer: str) -> dict[str, str]:
    """`environ` with the settings of a development run, except the URLs of servers that are not started yet.

    Peppers and other secrets are generated once, unless `environ` contains them. Raises DevError with a line for each
    invalid setting.
    """
    api_url = f"http://127.0.0.1:{options.port}"
    data_dir = options.data_dir
    added = {
        "KATAVEN_ENV": "development",
        "KATAVEN_PEPPERS": environ.get("KATAVEN_PEPPERS")
        or _stored(data_dir / "peppers", lambda: f"dev1:{secrets.token_urlsafe(32)}"),
        "KATAVEN_WIDGET_SIGNING_KEYS": environ.get("KATAVEN_WIDGET_SIGNING_KEYS")
        or _stored(data_dir / "widget_signing_keys", lambda: signing.new_key("dev1")),
        "KATAVEN_PUBLIC_URL": api_url,
        "KATAVEN_OIDC_ISSUER": issuer,
        "KATAVEN_OIDC_AUDIENCE": AUDIENCE,
        "KATAVEN_DATA_DIR": str(data_dir),
        "KATAVEN_HOST_SLOTS_DIR": environ.get("KATAVEN_HOST_SLOTS_DIR") or str(data_dir / "slots"),
        "KATAVEN_DUMP_DIR": environ.get("KATAVEN_DUMP_DIR") or str(data_dir / "dumps"),
        "KATAVEN_API_URL": api_url,
        "KATAVEN_HUB_URL": hub_url(options.port),
        "KATAVEN_HUB_CLIENT_ID": CLIENT_ID,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
        "PORT": str(options.port),
        "WORKERS": str(options.workers),
    }
    complete = {name: value for name, value in environ.items() if value or name not in _PLACEHOLDERS} | added
    try:
        load(_PLACEHOLDERS | complete)
    except SettingsError as error:
        raise DevError(str(error)) from None
    return complete


def write_for_other_shells(environ: Mapping[str, str], path: Path) -> None:
    """Write the product's variables as `KEY=value` lines, mode 0600, for `flask …` in a second shell."""
    lines = (f"{name}={value}\n" for name, value in sorted(environ.items()) if name.startswith("KATAVEN_"))
    write_private(path, "".join(lines))


def _stored(path: Path, generate: Callable[[], str]) -> str:
    """The secret in `path`, generated on first use."""
    secret = (read_text(path) or "").strip()
    if not secret:
        secret = generate()
        write_private(path, f"{secret}\n")
    return secret
