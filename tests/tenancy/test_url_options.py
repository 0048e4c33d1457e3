"""The options of PostgreSQL URLs are checked at startup, and unknown or unusable ones are refused with the fix."""

from __future__ import annotations

from pathlib import Path

import psycopg2.extensions
import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import make_url

from kataven import settings
from kataven.authservice.tls import TlsFiles
from kataven.settings import SettingsError
from kataven.system.suitability import server_url
from kataven.tenancy.programs import environment
from kataven.tenancy.url_options import KEEPALIVES, OPTIONS, check_options
from tests.support.certificates import authority
from tests.test_settings import GOOD

BASE = "postgresql+psycopg2://kataven@db.example/kataven_system"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    found = authority(tmp_path_factory.mktemp("tls") / "ca").issue("kataven")
    found.key.chmod(0o600)
    return found


def problem_of(query: str) -> str:
    """The message for a URL with this query, at startup; empty if it is accepted."""
    try:
        settings.load({**GOOD, "KATAVEN_DATABASE_URL": f"{BASE}?{query}"})
    except SettingsError as refused:
        (problem,) = refused.problems
        return problem
    return ""


def test_all_accepted_options_are_known_to_libpq() -> None:
    newer = {"sslcertmode", "sslnegotiation", "require_auth"}  # of later versions than this one's libpq
    for name in OPTIONS:
        try:
            psycopg2.extensions.parse_dsn(f"{name}=1")
        except psycopg2.ProgrammingError:
            assert name in newer, name


def test_tls_options_are_accepted_and_reach_the_programs(files: TlsFiles) -> None:
    query = f"sslmode=verify-full&sslrootcert={files.authority}&sslcert={files.certificate}&sslkey={files.key}"
    assert problem_of(query) == ""
    url = f"postgresql://kataven@db.example:5433?{query}&keepalives_interval=5"
    variables = environment(server_url(url))
    assert variables["PGSSLMODE"] == "verify-full"
    assert variables["PGSSLROOTCERT"] == str(files.authority)
    assert variables["PGSSLKEY"] == str(files.key)
    assert not {name for name in variables if "KEEPALIVE" in name}


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require",
        "sslmode=verify-full&sslrootcert=system",
        "host=db1:5432&host=db2:5432&target_session_attrs=read-write&connect_timeout=2",
        "options=-c%20work_mem%3D8MB&application_name=kataven",
        "passfile=/etc/kataven/pgpass&channel_binding=require&keepalives_idle=10",
    ],
)
def test_other_options_of_libpq_are_accepted(query: str) -> None:
    assert problem_of(query) == ""


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sslmod=verify-full", "has the unknown option 'sslmod'; did you mean 'sslmode'?"),
        ("ssl_root_cert=/ca.pem", "has the unknown option 'ssl_root_cert'; did you mean 'sslrootcert'?"),
        ("pool_size=5", "has the unknown option 'pool_size'; the options are application_name, "),
        ("sslmode=verify_full", "did you mean verify-full?"),
        ("sslmode=on", "must be one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslmode=", "has the option 'sslmode' without a value"),
        ("sslmode=require&sslmode=disable", "has the option 'sslmode' twice"),
        ("sslpassword=hunter2", "use a key without a passphrase"),
        ("password=hunter2", "write postgresql://user:password@host/database instead"),
        ("sslmode=disable&sslrootcert=/ca.pem", "has the option 'sslrootcert', which requires TLS"),
        ("sslkey=/k.pem", "has the option 'sslkey' without 'sslcert'"),
        ("sslcert=/c.pem", "has the option 'sslcert' without 'sslkey'"),
        ("sslrootcert=/missing/ca.pem", "names a file in 'sslrootcert' that can't be used (No such file or directory)"),
        ("sslcert=/c.pem&sslkey=/k.pem", "names a file in 'sslcert' or 'sslkey' that can't be used"),
    ],
)
def test_unusable_options_stop_the_process_with_the_fix(query: str, message: str) -> None:
    problem = problem_of(query)
    assert problem.startswith("KATAVEN_DATABASE_URL: ")
    assert message in problem
    assert "hunter2" not in problem
    if "password" not in query:
        with pytest.raises(ValueError, match=r"^The URL ") as refused:
            server_url(f"postgresql://kataven@db.example?{query}")
        assert message in str(refused.value)


def test_files_are_read_at_startup(files: TlsFiles, tmp_path: Path) -> None:
    other = authority(tmp_path / "other").issue("kataven")
    other.key.chmod(0o600)
    assert "no usable PEM content" in problem_of(f"sslrootcert={files.key}")
    assert "does not belong" in problem_of(f"sslcert={files.certificate}&sslkey={other.key}")
    protected = tmp_path / "protected.key"
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    protected.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a passphrase"),
        )
    )
    assert "must not have a passphrase" in problem_of(f"sslcert={files.certificate}&sslkey={protected}")


def test_key_that_other_users_can_read_is_refused(files: TlsFiles, tmp_path: Path) -> None:
    """libpq refuses it as well, but only when it connects."""
    key = tmp_path / "kataven.key"
    key.write_bytes(files.key.read_bytes())
    for mode in (0o644, 0o604, 0o660):
        key.chmod(mode)
        assert "chmod 600" in problem_of(f"sslcert={files.certificate}&sslkey={key}")
    key.chmod(0o400)
    assert problem_of(f"sslcert={files.certificate}&sslkey={key}") == ""


def test_options_without_a_variable_are_those_of_keepalives() -> None:
    environment(make_url(f"{BASE}?{'&'.join(f'{name}=1' for name in OPTIONS)}"))
    assert set(KEEPALIVES) < set(OPTIONS)
    check_options(make_url(BASE))
