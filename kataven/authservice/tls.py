"""Mutual TLS: each side must present a certificate of the same certificate authority."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate authority that both sides trust, and this side's certificate chain and private key."""

    authority: Path
    certificate: Path
    key: Path

    def for_server(self) -> grpc.ServerCredentials:
        """Raises OSError if a file cannot be read."""
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            root_certificates=self.authority.read_bytes(),
            require_client_auth=True,
        )

    def for_client(self) -> grpc.ChannelCredentials:
        """Raises OSError if a file cannot be read."""
        return grpc.ssl_channel_credentials(
            self.authority.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )
