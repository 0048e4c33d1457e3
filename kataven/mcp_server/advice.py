"""Errors for a model: what happened, and what to do next. None of them holds the API key."""

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
    InvalidRequestError,
    KatavenError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
)

_FIND = {
    "agent": "Call kataven_list_agents to find the right id.",
    "widget_key": "Call kataven_list_widget_keys to find the right id.",
}
CORRECT = "Correct the arguments that are named and call the tool again."
_READ_BEFORE_WRITING_AGAIN = "If this was a change, it may have happened: read before you write again."


def advise(error: KatavenError, noun: str) -> str:
    """One text: the API's own words, then the next step. `noun` is what the tool is about."""
    return f"{_what_happened(error)}\nWhat to do: {_next_step(error, noun)}"


def _what_happened(error: KatavenError) -> str:
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
            return "Correct the fields that are named and call the tool again."
        case AuthenticationError() | ConfigurationError():
            return (
                "Do not try again. Ask the user to put a good API key (sk_live_…) into the configuration of this MCP "
                "server. It must not be pasted into the conversation."
            )
        case PermissionDeniedError():
            return "Do not try again: this API key may not do it. Tell the user, with the code above."
        case NotFoundError():
            return _FIND.get(noun, "Check what you asked for; trying again changes nothing.")
        case ConflictError():
            return "The current state of the resource does not allow this. Read it again before you call another tool."
        case PreconditionFailedError():
            return "Somebody else changed it. Read it again, look at what is different, and call with the new `etag`."
        case RateLimitError():
            return f"Wait {_seconds(error)} before the next call. Then kataven_get_limits shows what is left."
        case ConnectionFailed():
            return f"Wait a moment and try once more. {_READ_BEFORE_WRITING_AGAIN}"
        case ApiError() if error.status >= 500:
            return f"Wait {_seconds(error)} and try once more. {_READ_BEFORE_WRITING_AGAIN}"
        case _:
            return "Do not try again. Tell the user what the error says."


def _seconds(error: ApiError) -> str:
    return "a moment" if error.retry_after is None else f"{math.ceil(error.retry_after)} seconds"
