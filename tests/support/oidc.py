"""The development issuer for tests: real discovery, keys and HTTP on a loopback port, and arbitrary tokens."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

from kataven.dev.issuer import DevIssuer
from kataven.dev.issuer.keys import SigningAlgorithm
from kataven.dev.issuer.tokens import TYPE, access_claims, id_claims, roles
from kataven.dev.personas import ALICE, Persona
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS
from tests.support.jose import Signer, without_none
from tests.support.waiting import wait_until


class IssuerWithPen(DevIssuer):
    """A running issuer that also signs whatever a test requests."""

    def token(
        self,
        person: Persona = ALICE,
        *,
        claims: Mapping[str, object] | None = None,
        algorithm: SigningAlgorithm = "ES256",
        **header: object,
    ) -> str:
        """An access token for `person`. `claims` and `header` replace or add members; None takes one out.

        What is said of roles counts for every claim that holds them.
        """
        payload = without_none({**access_claims(self.url, person), **_roles_alike(claims or {})})
        return self.signer(algorithm).token(payload, **{"typ": TYPE, **header})

    def id_token(
        self, person: Persona = ALICE, *, nonce: str | None = "a nonce", access_token: str = "", **claims: object
    ) -> str:
        """An ID token for `person`. `claims` replace or add members; None removes one."""
        said = id_claims(self.url, person, nonce=nonce, access_token=access_token)
        return self.signer().token(without_none({**said, **claims}), typ=TYPE)

    def signer(self, algorithm: SigningAlgorithm = "ES256") -> Signer:
        """The issuer's own key."""
        key = self.keyring.signing_key(algorithm)
        return Signer(key.key_id, key.algorithm_name, key.key)


def _roles_alike(claims: Mapping[str, object]) -> dict[str, object]:
    short = DEFAULT_ROLE_CLAIMS[0]
    return {**dict.fromkeys(roles({}), claims[short]), **claims} if short in claims else dict(claims)


class IssuerProcess:
    """The issuer as `pen` describes it, in a separate process, so that it can be killed and frozen."""

    def __init__(self, pen: IssuerWithPen, data_dir: Path) -> None:
        """`pen` is not started; the process signs with the same keys."""
        self._url = pen.url
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it accepts requests."""
        port = self._url.rpartition(":")[2]
        command = [sys.executable, "-m", "kataven.dev.issuer", "--port", port, "--data-dir", str(self._data_dir)]
        self._process = subprocess.Popen(command)
        wait_until(self._answers, 20)

    def stop(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{self._url}/.well-known/openid-configuration", trust_env=False).status_code == 200
        return False


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerWithPen]:
    """One issuer per worker. Tests that rotate its keys or stop it start their own."""
    with IssuerWithPen(tmp_path_factory.mktemp("issuer")) as running:
        yield running
