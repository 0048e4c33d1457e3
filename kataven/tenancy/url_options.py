"""Checks the options of a PostgreSQL URL (`?sslmode=verify-full&sslrootcert=/etc/kataven/ca.pem`) once, at startup.

libpq would report an unknown option only when it connects, and an unusable certificate file only if the server requires
TLS. The names and meanings are libpq's: https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from sqlalchemy import URL

VARIABLES: Final = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "client_encoding": "PGCLIENTENCODING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "gsslib": "PGGSSLIB",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "krbsrvname": "PGKRBSRVNAME",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "port": "PGPORT",
    "require_auth": "PGREQUIREAUTH",
    "requirepeer": "PGREQUIREPEER",
    "sslcert": "PGSSLCERT",
    "sslcertmode": "PGSSLCERTMODE",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "sslsni": "PGSSLSNI",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""The options with libpq's environment variables, through which PostgreSQL's client programs receive them."""
KEEPALIVES: Final = ("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout")
"""Options without a variable. A client program that runs for minutes doesn't need them."""
OPTIONS: Final = (*sorted((*VARIABLES, *KEEPALIVES)),)
"""The accepted options."""
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SEVERAL: Final = ("host", "options", "port")
"""Options that can be repeated."""
_TLS_FILES: Final = ("sslrootcert", "sslcert", "sslkey")
SYSTEM_AUTHORITIES: Final = "system"
"""A value of `sslrootcert` that is not a file."""


def check_options(url: URL, text: str = "") -> None:
    """Raise ValueError with the correction if libpq can't use an option of `url`. Reads the TLS files.

    `text` is the URL as it was written: SQLAlchemy ignores options without a value, such as an unset variable in
    `sslmode=$MODE`. The message never contains a value, which may be a secret.
    """
    written = text.rpartition("@")[2].partition("?")[2]
    for name, given in parse_qsl(written, keep_blank_values=True):
        if not given and name in OPTIONS:
            raise ValueError(f"has the option {name!r} without a value; write {name}=… or omit it")
    for name, value in url.query.items():
        if name == "sslpassword":
            raise ValueError(
                "has the option 'sslpassword'; use a key without a passphrase, because pg_dump can't receive one"
            )
        if name in ("dbname", "password", "user"):
            raise ValueError(f"has the option {name!r}; write postgresql://user:password@host/database instead")
        if name not in OPTIONS:
            raise ValueError(f"has the unknown option {name!r}; {_suggestion(name)}")
        if not isinstance(value, str) and name not in _SEVERAL:
            raise ValueError(f"has the option {name!r} twice; write it once")
    _check_tls({name: value for name, value in url.query.items() if isinstance(value, str)})


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), OPTIONS, 1, 0.7)
    return f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(OPTIONS)}"


def _check_tls(given: Mapping[str, str]) -> None:
    mode = given.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        near = difflib.get_close_matches(mode.lower().replace("_", "-"), SSL_MODES, 1, 0.7)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"has an 'sslmode' that libpq does not know; it must be one of {', '.join(SSL_MODES)}{hint}")
    if mode == "disable":
        for name in _TLS_FILES:
            if name in given:
                raise ValueError(f"has the option {name!r}, which requires TLS; write sslmode=verify-full")
    if "sslkey" in given and "sslcert" not in given:
        raise ValueError("has the option 'sslkey' without 'sslcert'; add the certificate of the key")
    if "sslcert" in given and "sslkey" not in given:
        raise ValueError("has the option 'sslcert' without 'sslkey'; add the key of the certificate")
    if given.get("sslrootcert") not in (None, SYSTEM_AUTHORITIES):
        _check_file("'sslrootcert'", lambda: ssl.create_default_context(cafile=given["sslrootcert"]))
    if "sslcert" in given:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # With an empty passphrase, OpenSSL rejects an encrypted key. Without one, it prompts on the terminal.
        _check_file(
            "'sslcert' or 'sslkey'", lambda: context.load_cert_chain(given["sslcert"], given["sslkey"], password="")
        )
        _check_permissions(Path(given["sslkey"]))


def _check_file(options: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it can't be read"
        why = "no usable PEM content, or a key that does not belong to the certificate" if _is_tls(error) else why
        raise ValueError(
            f"names a file in {options} that can't be used ({why}); it must be a PEM file that this process can read, "
            "and the key must not have a passphrase"
        ) from None


def _is_tls(error: Exception) -> bool:
    return isinstance(error, ssl.SSLError)


def _check_permissions(key: Path) -> None:
    """libpq's rule: other users can't read the key. If root owns it, the group can."""
    found = key.stat()
    refused = 0o037 if found.st_uid == 0 else 0o077
    if found.st_mode & refused:
        raise ValueError("names a key in 'sslkey' that other users can read; run `chmod 600` on the file")
