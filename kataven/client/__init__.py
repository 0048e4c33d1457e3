"""Python SDK for the Kataven API: `KatavenClient` is synchronous, `AsyncKatavenClient` is asynchronous.

from kataven.client import KatavenClient

with KatavenClient() as kataven:  # reads KATAVEN_API_KEY
    for agent in kataven.agents.list():
        print(agent.name, agent.status)
"""

from kataven.client.asynchronous import AsyncKatavenClient
from kataven.client.errors import (
    AddressNotAllowedError,
    ApiError,
    ArgumentError,
    AuthenticationError,
    BrowserUseError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    ConnectionFailed,
    FieldProblem,
    IdError,
    InsufficientScopeError,
    InvalidRequestError,
    KatavenError,
    NotFoundError,
    PausedKeyError,
    PermissionDeniedError,
    PreconditionFailedError,
    Problem,
    RateLimitError,
    RequestTimedOut,
    ServerError,
    UnavailableError,
    UnexpectedResponse,
)
from kataven.client.models import (
    Agent,
    AgentWidgetSettings,
    ApiKey,
    Credential,
    KeyLimits,
    Limit,
    Limits,
    Me,
    NewWidgetKey,
    Page,
    Receipt,
    RemovedWidgetKey,
    WidgetKey,
    WidgetSettings,
)
from kataven.client.retries import Retry
from kataven.client.sync import KatavenClient

__all__ = [
    "Agent",
    "AgentWidgetSettings",
    "ApiError",
    "ApiKey",
    "ArgumentError",
    "AsyncKatavenClient",
    "AuthenticationError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailed",
    "Credential",
    "FieldProblem",
    "IdError",
    "InvalidRequestError",
    "KatavenClient",
    "KatavenError",
    "KeyLimits",
    "Limit",
    "Limits",
    "Me",
    "NewWidgetKey",
    "NotFoundError",
    "Page",
    "InsufficientScopeError",
    "PausedKeyError",
    "AddressNotAllowedError",
    "BrowserUseError",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "Problem",
    "RateLimitError",
    "Receipt",
    "RemovedWidgetKey",
    "RequestTimedOut",
    "Retry",
    "ServerError",
    "UnavailableError",
    "UnexpectedResponse",
    "WidgetKey",
    "WidgetSettings",
]
