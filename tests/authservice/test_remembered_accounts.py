"""The accounts that the auth-service remembers are used only if the caller confirms their version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from kataven import assembly, settings
from kataven.account.models import ApiKey
from kataven.authservice.client import AuthServiceChannel, RemoteVerifier
from kataven.authservice.remembered_accounts import RememberingVerifier
from kataven.identity.credential import ApiKeyCredential, Credential, JwtCredential
from kataven.identity.errors import AccountSuspended, InvalidCredential, Refused, RevokedCredential, VerifierUnavailable
from kataven.revocation.target import RevokedKey
from kataven.system import accounts, journal
from kataven.system.directory import Directory
from kataven.system.models import Account, AccountStatus
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import free_port


@dataclass
class Service:
    """The verifier of an auth-service, with a directory of its own that caches nothing."""

    parts: assembly.Foundation
    verifier: RememberingVerifier

    def outcome(self, credential: Credential, version: bytes) -> str:
        try:
            return self.verifier.verify(credential, version).account
        except Refused as refusal:
            return refusal.code


@pytest.fixture(scope="module")
def service(harness: AppHarness) -> Iterator[Service]:
    configured = settings.load(harness.environ)
    parts = assembly.foundation(configured)
    yield Service(parts, RememberingVerifier(assembly.local_verifier(configured, parts), capacity=3))
    parts.registry.close()
    parts.directory.database.close()


@pytest.fixture
def worker(harness: AppHarness) -> Directory:
    """The directory of a worker, from which no event has evicted anything."""
    return harness.services.directory


@pytest.fixture
def credential(harness: AppHarness, account: str) -> ApiKeyCredential:
    return ApiKeyCredential(harness.new_key(account), account)


@pytest.fixture
def account(harness: AppHarness) -> str:
    name = f"remembered-{uuid4().hex[:8]}"
    new_account(harness.services, name)
    return name


def version(directory: Directory, account: str) -> bytes:
    found = directory.version(account)
    assert found
    return found


def suspend(worker: Directory, account: str) -> None:
    """Without an event: a worker that has cached the account treats it as active."""
    with worker.database.writing() as session:
        accounts.move(session, account, AccountStatus.SUSPENDED, AccountStatus.ACTIVE)


def test_two_processes_give_an_account_the_same_version(service: Service, worker: Directory, account: str) -> None:
    assert version(service.parts.directory, account) == version(worker, account)
    assert version(worker, account) != version(worker, "acme")


def test_remembered_account_is_used_if_its_version_is_confirmed(
    service: Service, worker: Directory, account: str, credential: ApiKeyCredential
) -> None:
    """As in a worker that verifies keys itself: its cached account is current until an event evicts it."""
    before = version(worker, account)
    assert service.outcome(credential, before) == account
    suspend(worker, account)
    assert service.outcome(credential, before) == account
    after = version(service.parts.directory, account)
    assert after != before
    assert service.outcome(credential, after) == AccountSuspended.code
    assert service.outcome(credential, after) == AccountSuspended.code


@pytest.mark.parametrize("confirmed", [b"", b"another version"])
def test_account_is_read_if_its_version_is_not_confirmed(
    service: Service, worker: Directory, account: str, credential: ApiKeyCredential, confirmed: bytes
) -> None:
    assert service.outcome(credential, confirmed) == account
    suspend(worker, account)
    assert service.outcome(credential, confirmed) == AccountSuspended.code


def test_former_version_does_not_return_the_account_that_had_it(
    service: Service, worker: Directory, account: str, credential: ApiKeyCredential
) -> None:
    before = version(worker, account)
    assert service.outcome(credential, before) == account
    suspend(worker, account)
    assert service.outcome(credential, b"") == AccountSuspended.code
    assert service.outcome(credential, before) == AccountSuspended.code, "the service remembers what it read last"


def test_every_fact_that_a_key_is_verified_with_changes_the_version(
    harness: AppHarness, service: Service, account: str
) -> None:
    directory = service.parts.directory
    seen = [version(directory, account)]
    for change in (
        {"zitadel_org_id": uuid4().hex},
        {"database_name": f"{account}-moved"},
        {"schema_revision": "account_0001"},
        {"status": AccountStatus.SUSPENDED},
    ):
        with directory.database.writing() as session:
            row = session.get_one(Account, account)
            for name, value in change.items():
                setattr(row, name, value)
        seen.append(version(directory, account))
    with directory.database.writing() as session:
        journal.add(session, RevokedKey(account, str(uuid4()), None))
    seen.append(version(directory, account))
    assert len(set(seen)) == len(seen)


def test_journalled_key_is_rejected_with_the_version_from_after_its_revocation(
    harness: AppHarness, service: Service, worker: Directory, account: str, credential: ApiKeyCredential
) -> None:
    assert service.outcome(credential, version(worker, account)) == account
    record = worker.read(account)
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        key_id = session.query(ApiKey.id).scalar()
    with worker.database.writing() as session:
        journal.add(session, RevokedKey(account, str(key_id), None))
    assert service.outcome(credential, version(service.parts.directory, account)) == RevokedCredential.code


def test_number_of_remembered_accounts_is_bounded(harness: AppHarness, service: Service, worker: Directory) -> None:
    names = [f"many-{number}-{uuid4().hex[:8]}" for number in range(5)]
    for name in names:
        new_account(harness.services, name)
        assert service.outcome(ApiKeyCredential(harness.new_key(name), name), version(worker, name)) == name
    assert len(service.verifier._remembered) == 3


def test_tokens_of_users_are_verified_without_remembered_accounts(
    harness: AppHarness, service: Service, worker: Directory
) -> None:
    credential = JwtCredential(harness.issuer.token(), "acme")
    for confirmed in (b"", version(worker, "acme")):
        assert service.outcome(credential, confirmed) == "acme"


def test_key_of_an_unknown_account_is_rejected_without_the_service(harness: AppHarness, worker: Directory) -> None:
    channel = AuthServiceChannel(f"127.0.0.1:{free_port()}", deadline_seconds=1)
    verifier = RemoteVerifier(channel, worker.version)
    secret = harness.new_key("acme")
    with pytest.raises(InvalidCredential):
        verifier.verify(ApiKeyCredential(secret, "no-such-account"))
    with pytest.raises(VerifierUnavailable):
        verifier.verify(ApiKeyCredential(secret, "acme"))
    channel.close()
