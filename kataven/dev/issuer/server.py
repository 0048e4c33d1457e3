"""The development issuer on a loopback port."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from kataven.dev.issuer.app import create_issuer
from kataven.dev.issuer.keys import Keyring
from kataven.dev.loopback import HOSTS, LoopbackServer


class DevIssuer(LoopbackServer):
    """An OpenID provider that only this machine can reach, because anyone can sign in to it as an owner.

    Its keys are in `data_dir`, so tokens remain valid after a restart on the same port.
    """

    def __init__(self, data_dir: Path, *, host: str = HOSTS[0], port: int = 0) -> None:
        super().__init__(host, port)
        self.keyring = Keyring(data_dir)

    def create_application(self) -> Flask:
        return create_issuer(self.url, self.keyring)

    def start(self) -> None:
        """Also raises DevError if the signing keys cannot be read."""
        self.keyring.signing_key()
        super().start()
