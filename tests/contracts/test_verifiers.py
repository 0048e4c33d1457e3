"""The contract of the verifier: in the process, behind the cache, and through the auth-service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kataven import assembly, settings
from kataven.authservice.client import AuthServiceChannel, RemoteIssuer, RemoteVerifier
from kataven.authservice.remembered_accounts import RememberingVerifier
from kataven.authservice.server import AuthServer, AuthService
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE, CHARLIE, Persona
from kataven.identity import errors
from kataven.identity import token as tokens
from kataven.identity.credential import ApiKeyCredential, JwtCredential
from kataven.identity.issuer import Issuer
from kataven.identity.principal import CredentialKind, Role
from kataven.identity.token import TokenKind
from kataven.identity.verifier import LocalVerifier, Verifier
from kataven.revocation.cache import CachingVerifier
from kataven.system import accounts
from kataven.system.models import AccountStatus
from tests.support.app_harness import AppHarness, new_account
from tests.support.servers import ask

PAST = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def local(harness: AppHarness) -> LocalVerifier:
    configured = settings.load(harness.environ)
    services = harness.services
    parts = assembly.Foundation(
        services.revocation,
        services.directory,
        services.registry,
        assembly.AccountSessions(services.directory, services.registry),
        services.histories,
    )
    return assembly.local_verifier(configured, parts)


@pytest.fixture(scope="module")
def connection(harness: AppHarness, local: LocalVerifier) -> Iterator[AuthServiceChannel]:
    remembering = RememberingVerifier(local)
    server = AuthServer(AuthService(remembering, harness.services.issuer), "127.0.0.1:0")
    server.start()
    connected = AuthServiceChannel(f"127.0.0.1:{server.port}")
    yield connected
    connected.close()
    server.stop()


@pytest.fixture(params=["local", "cached", "remote", "remote with versions", "remote with versions and cached"])
def verifier(
    request: pytest.FixtureRequest, harness: AppHarness, local: LocalVerifier, connection: AuthServiceChannel
) -> Verifier:
    inner: Verifier = local
    if "versions" in request.param:
        inner = RemoteVerifier(connection, harness.services.directory.version)
    elif "remote" in request.param:
        inner = RemoteVerifier(connection)
    return CachingVerifier(inner, harness.services.revocation.guard) if "cached" in request.param else inner


@pytest.fixture(params=["local", "remote"])
def key_issuer(request: pytest.FixtureRequest, harness: AppHarness, connection: AuthServiceChannel) -> Issuer:
    return harness.services.issuer if request.param == "local" else RemoteIssuer(connection)


def refusal(verify: Callable[[], object]) -> str:
    """The code of the refusal, which must be the same at the second call."""
    with pytest.raises(errors.Refused) as first:
        verify()
    with pytest.raises(errors.Refused) as second:
        verify()
    assert type(first.value) is type(second.value)
    assert str(first.value) == str(second.value)
    return first.value.code


def test_a_key(harness: AppHarness, verifier: Verifier) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    text = harness.new_key("acme", expires_at=ends, limits={"per_minute": 7})
    first = verifier.verify(ApiKeyCredential(text, "acme"))
    assert (first.kind, first.account, first.name, first.role) == (CredentialKind.API_KEY, "acme", "test", None)
    assert first.expires_at == pytest.approx(ends.timestamp())
    assert first.limits == {"per_minute": 7}
    assert verifier.verify(ApiKeyCredential(text, "acme")) == first


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"expires_at": PAST}, "expired_credential"),
        ({"disabled_at": PAST}, "revoked_credential"),
        ({"expires_at": PAST, "disabled_at": PAST}, "expired_credential"),
    ],
)
def test_expired_and_revoked_keys(harness: AppHarness, verifier: Verifier, columns: dict[str, Any], code: str) -> None:
    text = harness.new_key("acme", **columns)
    assert refusal(lambda: verifier.verify(ApiKeyCredential(text, "acme"))) == code


def test_a_key_that_was_not_issued(verifier: Verifier) -> None:
    for account in ("acme", "unknown"):
        text = tokens.generate(TokenKind.API_KEY, account).text
        assert refusal(lambda text=text, account=account: verifier.verify(ApiKeyCredential(text, account))) == (  # type: ignore[misc]
            "invalid_credential"
        )


def test_another_accounts_key_is_invalid(harness: AppHarness, verifier: Verifier) -> None:
    text = harness.new_key("globex")
    assert refusal(lambda: verifier.verify(ApiKeyCredential(text, "acme"))) == "invalid_credential"


def test_a_suspended_account(harness: AppHarness, verifier: Verifier) -> None:
    account = f"suspended-{abs(hash(verifier)) % 10**9}"
    new_account(harness.services, account)
    text = harness.new_key(account)
    with harness.services.directory.database.writing() as session:
        accounts.move(session, account, AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
    harness.services.revocation.revoke(harness.scope(account))
    assert refusal(lambda: verifier.verify(ApiKeyCredential(text, account))) == "account_suspended"
    token = harness.issuer.token(Persona("dora", "Dora", account, Role.ADMIN))
    assert refusal(lambda: verifier.verify(JwtCredential(token, account))) == "account_suspended"


def test_a_jwt(harness: AppHarness, verifier: Verifier) -> None:
    token = harness.issuer.token(ALICE)
    principal = verifier.verify(JwtCredential(token, "acme"))
    assert (principal.kind, principal.id, principal.name, principal.role) == (
        CredentialKind.JWT,
        "alice",
        "Alice",
        "owner",
    )
    assert principal.expires_at is not None
    assert principal.limits is None
    assert refusal(lambda: verifier.verify(JwtCredential(token, "globex"))) == "account_mismatch"
    assert verifier.verify(JwtCredential(token, "acme")) == principal


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": PAST.timestamp()}, "expired_credential"),
        ({"aud": "others"}, "invalid_credential"),
        ({"iss": "https://others.example"}, "invalid_credential"),
    ],
)
def test_an_invalid_jwt(harness: AppHarness, verifier: Verifier, claims: dict[str, Any], code: str) -> None:
    token = harness.issuer.token(CHARLIE, claims=claims)
    assert refusal(lambda: verifier.verify(JwtCredential(token, "globex"))) == code


def test_a_malformed_jwt(verifier: Verifier) -> None:
    assert refusal(lambda: verifier.verify(JwtCredential("eyJ0.AAAA.AAAA", "acme"))) == "malformed_token"


def test_an_account_with_another_schema_version_has_its_own_error_code(
    harness: AppHarness, postgres: EmbeddedPostgres, verifier: Verifier
) -> None:
    account = f"schema-{abs(hash(verifier)) % 10**9}"
    new_account(harness.services, account)
    text = harness.new_key(account)
    ask(postgres, "UPDATE alembic_version SET version_num = 'account_9999'", account)
    with harness.services.directory.database.writing() as session:
        accounts.read(session, account).schema_revision = "account_9999"
    harness.services.revocation.revoke(harness.scope(account))
    with pytest.raises(errors.AccountOutOfStep, match="account_9999") as unavailable:
        verifier.verify(ApiKeyCredential(text, account))
    assert unavailable.value.code == "schema_mismatch"
    assert unavailable.value.retry_after_seconds == 60


def test_an_account_with_an_unreachable_database_is_unavailable(harness: AppHarness, verifier: Verifier) -> None:
    account = f"gone-{abs(hash(verifier)) % 10**9}"
    new_account(harness.services, account)
    text = harness.new_key(account)
    with harness.services.directory.database.writing() as session:
        accounts.read(session, account).database_name = f"no-{account}"
    harness.services.registry.forget(account)
    harness.services.revocation.revoke(harness.scope(account))
    with pytest.raises(errors.VerifierUnavailable) as unavailable:
        verifier.verify(ApiKeyCredential(text, account))
    assert unavailable.value.retry_after_seconds >= 1


def test_issuing_returns_a_key_and_its_hash(key_issuer: Issuer) -> None:
    for kind in TokenKind:
        issued = key_issuer.issue(kind, "acme")
        parsed = tokens.parse(issued.text)
        assert (parsed.kind, parsed.account, parsed.hint) == (kind, "acme", issued.hint)
        assert key_issuer.candidates(issued.text)[0] == issued.hash
        assert key_issuer.pepper_ids() == ("dev1",)
        assert len(issued.hash.digest) == 32
