"""Uses the auth-service as a Verifier and an Issuer.

If the service is unreachable, calls raise VerifierUnavailable: the credential is neither accepted nor rejected.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kataven import tracing
from kataven.authservice import auth_pb2 as pb
from kataven.authservice import codec
from kataven.authservice.tls import TlsFiles
from kataven.identity import token as tokens
from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.errors import InvalidCredential, VerifierUnavailable
from kataven.identity.issuer import IssuedKey, Seed, UnknownPepper
from kataven.identity.peppers import KeyHash
from kataven.identity.principal import Principal
from kataven.identity.token import TokenKind

DEADLINE_SECONDS = 2.0
HEALTH_SECONDS = 1.0
CHANNEL_OPTIONS = [
    # An unresponsive peer is detected within seconds, even between calls, and reconnected soon.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),  # the default is a minute, which also applies to keepalive pings
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Tokens have at most 8 KiB; no message is large.
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.enable_http_proxy", 0),
]

Response = TypeVar("Response", bound=Message)
ObserveCall = Callable[[str, str, float], None]
AccountVersion = Callable[[str], bytes | None]


class AuthServiceChannel:
    """A channel to the auth-service. The first call opens it, so that it is opened after the fork."""

    def __init__(
        self,
        address: str,
        tls: TlsFiles | None = None,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        observe: ObserveCall | None = None,
    ) -> None:
        """`observe(method, outcome, seconds)` runs after each call. `outcome` is `answered` or a gRPC status name."""
        self._address = address
        self._tls = tls
        self._deadline_seconds = deadline_seconds
        self._observe = observe or (lambda method, outcome, seconds: None)
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, tuple[grpc.Channel, Callable[..., Any]]] = {}
        self._lock = threading.Lock()

    def call(self, method: str, request: Message, response_type: type[Response]) -> Response:
        """Call a method, within the deadline. Raises VerifierUnavailable."""
        send = self._method(method, type(request), response_type)
        trace = tracing.current.get()
        metadata = [(tracing.HEADER, trace.header)] if trace is not None else []
        started, outcome = time.perf_counter(), "answered"
        try:
            response: Response = send(request, timeout=self._deadline_seconds, metadata=metadata)
        except grpc.RpcError as error:
            # The error is also the call, which has the status.
            status = getattr(error, "code", lambda: grpc.StatusCode.UNKNOWN)()
            outcome = status.name.lower()
            raise VerifierUnavailable("The auth-service is unreachable. Retry later.") from error
        finally:
            self._observe(method, outcome, time.perf_counter() - started)
        return response

    def is_serving(self) -> bool:
        """Whether the service reports within a second that it is serving (grpc.health.v1)."""
        check = health_pb2_grpc.HealthStub(self._opened()).Check  # type: ignore[attr-defined]  # generated at runtime
        try:
            response = check(health_pb2.HealthCheckRequest(service=codec.SERVICE), timeout=HEALTH_SECONDS)
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _method(self, method: str, request: type[Message], response: type[Message]) -> Callable[..., Any]:
        channel = self._opened()
        # Creating the callable takes longer than encoding and decoding the messages.
        found = self._methods.get(method)
        if found is None or found[0] is not channel:
            send = channel.unary_unary(
                f"/{codec.SERVICE}/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            found = self._methods[method] = (channel, send)
        return found[1]

    def _opened(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                self._channel = self._open()
            return self._channel

    def _open(self) -> grpc.Channel:
        if self._tls is None:
            return grpc.insecure_channel(self._address, CHANNEL_OPTIONS)
        return grpc.secure_channel(self._address, self._tls.for_client(), CHANNEL_OPTIONS)


class RemoteVerifier:
    """Verifies credentials through the auth-service.

    `account_version` returns the version of an account, and None for an unknown account, whose keys are rejected
    without the service. It may use only caches of the guard that protects the results of this verifier. Raises
    VerifierUnavailable. By default, no version is sent, and the service reads the account for each key.
    """

    def __init__(self, channel: AuthServiceChannel, account_version: AccountVersion = lambda _: b"") -> None:
        self._channel = channel
        self._account_version = account_version

    def verify(self, credential: Credential) -> Principal:
        version = self._account_version(credential.account) if isinstance(credential, ApiKeyCredential) else b""
        if version is None:
            raise InvalidCredential
        response = self._channel.call(codec.VERIFY, codec.credential_out(credential, version), pb.VerifyResponse)
        try:
            principal = codec.principal_in(response)
        except codec.UnknownMessage as error:
            raise VerifierUnavailable("The auth-service returned an invalid response.") from error
        if principal.account != credential.account:
            raise VerifierUnavailable("The auth-service returned another account.")
        return principal


class RemoteIssuer:
    """Issues keys through the auth-service, so that this process never holds a pepper."""

    def __init__(self, channel: AuthServiceChannel) -> None:
        self._channel = channel

    def issue(self, kind: TokenKind, account: str, seed: Seed | None = None) -> IssuedKey:
        # An older service ignores the seed and issues a random key. The caller compares the hash of a repeated key.
        request = codec.issue_out(kind, account, seed)
        response = self._channel.call(codec.ISSUE, request, pb.IssueResponse)
        if not response.text:
            raise UnknownPepper("the auth-service does not have this pepper")
        return codec.issued_in(response)

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        response = self._channel.call(codec.CANDIDATES, pb.CandidatesRequest(token=token), pb.CandidatesResponse)
        return tuple(codec.hash_in(candidate) for candidate in response.candidates)

    def pepper_ids(self) -> tuple[str, ...]:
        # Any key has one candidate per pepper, even if it is not stored, so the protocol needs no separate method.
        unstored = tokens.generate(TokenKind.API_KEY, "kataven-admin")
        return tuple(candidate.pepper_id for candidate in self.candidates(unstored.text))
