"""The auth-service as a process: mutual TLS, settings, and which process holds the peppers."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kataven.authservice import auth_pb2 as pb
from kataven.authservice import codec
from kataven.authservice.client import AuthServiceChannel, RemoteVerifier
from kataven.authservice.tls import TlsFiles
from kataven.identity.credential import ApiKeyCredential
from kataven.identity.errors import AccountSuspended, Refused, VerifierUnavailable
from kataven.system import accounts
from kataven.system.models import AccountStatus
from tests.authservice.running import answers, running_service
from tests.support.app_harness import AppHarness, new_account
from tests.support.auth_service import Service, remote_environ
from tests.support.certificates import authority
from tests.support.gunicorn import CHECKOUT, Gunicorn, free_port
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def service(harness: AppHarness, server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("auth-service") / "log"
    with running_service(harness, server_folder / "auth.sock", log) as running:
        yield running


def test_the_service_does_not_cache(harness: AppHarness, service: Service, connection: AuthServiceChannel) -> None:
    new_account(harness.services, "forgotten")
    credential = ApiKeyCredential(harness.new_key("forgotten"), "forgotten")
    verifier = RemoteVerifier(connection)
    assert verifier.verify(credential).account == "forgotten"
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "forgotten", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
    # No event was published, so a process that has cached the account still treats it as active.
    with pytest.raises(AccountSuspended):
        verifier.verify(credential)


def test_an_invalid_request_is_rejected_without_repeating_it(service: Service) -> None:
    with grpc.insecure_channel(service.address) as channel:
        verify = channel.unary_unary(
            f"/{codec.SERVICE}/{codec.VERIFY}",
            request_serializer=pb.VerifyRequest.SerializeToString,
            response_deserializer=pb.VerifyResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as refused:
            verify(pb.VerifyRequest(kind=99, token="sk_live_secret", account="acme"), timeout=5)  # type: ignore[arg-type]
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "secret" not in refused.value.details()
    assert "sk_live_secret" not in service.log.read_text()


def test_with_the_service_the_api_processes_hold_no_pepper(
    harness: AppHarness, service: Service, tmp_path: Path
) -> None:
    key = harness.new_key("acme")
    with Gunicorn(remote_environ(harness.environ, service.address), tmp_path / "api.log") as api:
        with api.client(key) as client:
            for _ in range(5):
                assert client.get("/v1/me").json()["account"] == "acme"
        with api.client(harness.issuer.token(), "acme") as alice:
            generated = alice.post("/v1/api-keys", json={"name": "Remote", "expiry": "30d"}).json()
        with api.client(generated["key"]) as client:
            assert client.get("/v1/me").status_code == 200
        pepper = harness.environ["KATAVEN_PEPPERS"].partition(":")[2].encode()
        assert holds(service.process.pid, pepper), "the search finds what is there"
        for pid in (api.process.pid, *api.worker_pids()):
            assert not holds(pid, pepper)


def holds(pid: int, secret: bytes) -> bool:
    """Whether the writable memory or the environment of a process contains these bytes."""
    if secret in Path(f"/proc/{pid}/environ").read_bytes():
        return True
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in re.findall(r"(?m)^([0-9a-f]+)-([0-9a-f]+) rw", Path(f"/proc/{pid}/maps").read_text()):
            with contextlib.suppress(OSError, ValueError):
                memory.seek(int(start, 16))
                if secret in memory.read(int(end, 16) - int(start, 16)):
                    return True
    return False


def test_mutual_tls_requires_a_client_certificate(harness: AppHarness, tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    server_files, client_files = ours.issue("localhost"), ours.issue("hub")
    environ = {
        **harness.environ,
        "KATAVEN_AUTH_TLS_AUTHORITY": str(server_files.authority),
        "KATAVEN_AUTH_TLS_CERTIFICATE": str(server_files.certificate),
        "KATAVEN_AUTH_TLS_KEY": str(server_files.key),
    }
    address = f"localhost:{free_port()}"
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    with Service(environ, tmp_path / "log", address) as running:
        assert asks(address, client_files, credential, running)
        other_authority = theirs.issue("hub")
        mixed = TlsFiles(client_files.authority, other_authority.certificate, other_authority.key)
        for files in (None, mixed, other_authority):
            connected = AuthServiceChannel(address, files, deadline_seconds=2)
            with pytest.raises(VerifierUnavailable):
                RemoteVerifier(connected).verify(credential)
            connected.close()


def asks(address: str, files: TlsFiles, credential: ApiKeyCredential, running: Service) -> bool:
    connected = AuthServiceChannel(address, files)
    try:
        wait_until(lambda: answers(RemoteVerifier(connected), credential), 20, running.log.read_text)
    finally:
        connected.close()
    return True


def test_an_invalid_setting_is_reported_and_ends_the_process(harness: AppHarness, tmp_path: Path) -> None:
    for changes, said in (
        ({"KATAVEN_OIDC_ISSUER": ""}, "KATAVEN_OIDC_ISSUER: is missing"),
        ({"KATAVEN_PEPPERS": "", "KATAVEN_AUTH_SERVICE": "localhost:1"}, "KATAVEN_PEPPERS: is missing"),
        ({"KATAVEN_AUTH_TLS_KEY": "/nowhere"}, "KATAVEN_AUTH_TLS_KEY: the file does not exist"),
        ({"KATAVEN_AUTH_BIND": "nowhere.localhost.invalid:x"}, "KATAVEN_AUTH_BIND:"),
    ):
        environ = {**os.environ, **harness.environ, "KATAVEN_AUTH_BIND": "127.0.0.1:0", **changes}
        ended = subprocess.run(
            [sys.executable, "-m", "kataven.authservice"],
            cwd=CHECKOUT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert ended.returncode in {1, 2}
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def test_the_generated_messages_match_the_proto_file(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I.",
            f"--python_out={tmp_path}",
            "kataven/authservice/auth.proto",
        ],
        cwd=CHECKOUT,
        check=True,
    )
    generated = (tmp_path / "kataven" / "authservice" / "auth_pb2.py").read_text()
    assert generated == (CHECKOUT / "kataven" / "authservice" / "auth_pb2.py").read_text()


def test_every_refusal_has_a_unique_code() -> None:
    assert len(set(codec.REFUSALS)) == len(list(codec._subclasses(Refused)))
