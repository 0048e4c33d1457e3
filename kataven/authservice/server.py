"""The gRPC server of the auth-service: verifies credentials, issues keys, and serves `grpc.health.v1`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kataven import logs, tracing
from kataven.authservice import auth_pb2 as pb
from kataven.authservice import codec
from kataven.authservice.remembered_accounts import RememberingVerifier
from kataven.authservice.tls import TlsFiles
from kataven.identity.errors import Refused, VerifierUnavailable
from kataven.identity.issuer import Issuer, UnknownPepper

log = logging.getLogger(__name__)
access = logs.AccessLog("kataven.access")

THREADS = 16
GRACE_SECONDS = 5.0
SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Otherwise a second server could share the port, and half of the calls would use other peppers.
    ("grpc.so_reuseport", 0),
]

Rpc = Callable[[Any, grpc.ServicerContext], Message]


class AuthService:
    """Implements the methods of the service."""

    def __init__(self, verifier: RememberingVerifier, issuer: Issuer) -> None:
        self._verifier = verifier
        self._issuer = issuer

    def verify(self, request: pb.VerifyRequest, context: grpc.ServicerContext) -> pb.VerifyResponse:
        try:
            principal = self._verifier.verify(codec.credential_in(request), request.account_version)
            return codec.principal_out(principal)
        except Refused as refusal:
            return codec.refusal_out(refusal)
        except VerifierUnavailable as error:
            return codec.unavailable_out(error)

    def issue(self, request: pb.IssueRequest, context: grpc.ServicerContext) -> pb.IssueResponse:
        kind, seed = codec.token_kind_in(request.kind), codec.seed_in(request)
        try:
            return codec.issued_out(self._issuer.issue(kind, request.account, seed))
        except UnknownPepper:
            return pb.IssueResponse()

    def candidates(self, request: pb.CandidatesRequest, context: grpc.ServicerContext) -> pb.CandidatesResponse:
        hashes = self._issuer.candidates(request.token)
        return pb.CandidatesResponse(candidates=[codec.hash_out(candidate) for candidate in hashes])

    def handlers(self) -> grpc.GenericRpcHandler:
        """The method handlers for a gRPC server."""
        return grpc.method_handlers_generic_handler(
            codec.SERVICE,
            {
                codec.VERIFY: _method(codec.VERIFY, self.verify, pb.VerifyRequest),
                codec.ISSUE: _method(codec.ISSUE, self.issue, pb.IssueRequest),
                codec.CANDIDATES: _method(codec.CANDIDATES, self.candidates, pb.CandidatesRequest),
            },
        )


class AuthServer:
    """A listening server. `address` is `host:port` or `unix:/path`; port 0 selects a free port, see `port`."""

    def __init__(
        self,
        service: AuthService,
        address: str,
        tls: TlsFiles | None = None,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
    ) -> None:
        self._health = health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="auth"),
            interceptors=list(interceptors),
            options=SERVER_OPTIONS,
        )
        self._server.add_generic_rpc_handlers((service.handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = (
            self._server.add_insecure_port(address)
            if tls is None
            else self._server.add_secure_port(address, tls.for_server())
        )

    def start(self) -> None:
        """Start serving."""
        self._server.start()
        self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Report that no new calls are accepted, finish the calls in progress, and close."""
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server.stop(GRACE_SECONDS).wait()

    def _set_health(self, status: int) -> None:
        for name in ("", codec.SERVICE):
            self._health.set(name, status)


def _method(name: str, rpc: Rpc, request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        _logged(name, _guarded(rpc)), request_deserializer=request.FromString, response_serializer=_serialize
    )


def _logged(name: str, rpc: Rpc) -> Rpc:
    """Log each call with its method, duration and trace; never its content."""

    def logged(request: Message, context: grpc.ServicerContext) -> Message:
        headers = {str(key): str(value) for key, value in context.invocation_metadata()}
        trace = tracing.open_trace(headers.get(tracing.HEADER))
        logs.set_ids(trace_id=trace.trace_id)
        started = time.perf_counter()
        try:
            return rpc(request, context)
        finally:
            access.info("call", method=name, ms=round((time.perf_counter() - started) * 1000, 2))

    return logged


def _guarded(rpc: Rpc) -> Rpc:
    def guarded(request: Message, context: grpc.ServicerContext) -> Message:
        try:
            return rpc(request, context)
        except (codec.UnknownMessage, ValueError):
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "invalid request")
        except Exception:
            # gRPC would send the exception's message to the caller.
            log.exception("unforeseen")
            _abort(context, grpc.StatusCode.INTERNAL, "internal error; see the log of the auth-service")

    return guarded


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, detail: str) -> NoReturn:
    context.abort(code, detail)
    raise AssertionError("abort returned")


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
