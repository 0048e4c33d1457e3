"""Mutual TLS: each side shows a certificate of the same authority, or there is no connection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority that both sides trust, and this side's own certificate chain and private key."""

    authority: Path
    certificate: Path
    key: Path

    def for_server(self) -> grpc.ServerCredentials:
        """Raises OSError for a file that can't be read."""
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            root_certificates=self.authority.read_bytes(),
            require_client_auth=True,
        )

    def for_client(self) -> grpc.ChannelCredentials:
        """Raises OSError for a file that can't be read."""
        return grpc.ssl_channel_credentials(
            self.authority.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )
