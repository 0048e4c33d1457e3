"""Error messages for models: what happened, and what to do next. They never contain the API key."""

from __future__ import annotations

import math

from kataven.client import (
    ApiError,
    ArgumentError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    ConnectionFailed,
    IdError,
    InsufficientScopeError,
    InvalidRequestError,
    KatavenError,
    NotFoundError,
    PausedKeyError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
)

_FIND = {
    "agent": "Call kataven_list_agents to find the right id.",
    "request": "Call kataven_list_requests to find the right id. A request appears after some seconds.",
    "widget_key": "Call kataven_list_widget_keys to find the right id.",
}
CORRECT = "Correct the arguments listed above and call the tool again."
_READ_BEFORE_WRITING_AGAIN = "If this was a change, it may have been applied: read the resource before you retry."


def advise(error: KatavenError, noun: str) -> str:
    """The API's error message, followed by the next step. `noun` is the resource that the tool manages."""
    return f"{_describe(error)}\nWhat to do: {_next_step(error, noun)}"


def _describe(error: KatavenError) -> str:
    if isinstance(error, ApiError):
        fields = "".join(f"\n- {problem.field}: {problem.message}" for problem in error.errors)
        return f"{error}{fields}"
    return str(error)


def _next_step(error: KatavenError, noun: str) -> str:
    match error:
        case IdError():
            return f"Take the id from a list tool. {_FIND.get(noun, '')}".strip()
        case ArgumentError():
            return CORRECT
        case InvalidRequestError():
            return "Correct the fields listed above and call the tool again."
        case AuthenticationError() | ConfigurationError():
            return (
                "Do not retry. Ask the user to set a valid API key (sk_live_…) in the configuration of this MCP "
                "server. The user must not paste the key into the conversation."
            )
        case InsufficientScopeError():
            return (
                "Do not retry: the API key of this MCP server does not have the scope that this tool needs. Ask the "
                "user for an API key with this scope."
            )
        case PausedKeyError():
            return "Do not retry: the API key is paused. Ask the user to resume it in the Hub."
        case PermissionDeniedError():
            return "Do not retry: this API key is not allowed to do this. Tell the user, and include the error code."
        case NotFoundError():
            return _FIND.get(noun, "Check the arguments. The same call will fail again.")
        case ConflictError():
            return "The current state of the resource does not allow this. Read it again before you call another tool."
        case PreconditionFailedError():
            return "Someone else updated it first. Read it again, check what changed, and retry with the new `etag`."
        case RateLimitError():
            return f"Wait {_seconds(error)} before the next call. kataven_get_limits then returns the remaining quota."
        case ConnectionFailed():
            return f"Wait a moment and retry once. {_READ_BEFORE_WRITING_AGAIN}"
        case ApiError() if error.status >= 500:
            return f"Wait {_seconds(error)} and retry once. {_READ_BEFORE_WRITING_AGAIN}"
        case _:
            return "Do not retry. Tell the user what the error says."


def _seconds(error: ApiError) -> str:
    return "a moment" if error.retry_after is None else f"{math.ceil(error.retry_after)} seconds"
