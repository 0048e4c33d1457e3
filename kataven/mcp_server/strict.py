"""Rejects tool calls with arguments that the tool does not declare, and advertises only what the server offers.

The library ignores unknown arguments. A model that passes `etag` instead of `if_match` would then delete a resource
that it meant to delete only if it had not changed.
"""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, Tool
from pydantic import ValidationError

from kataven.mcp_server.advice import CORRECT
from kataven.mcp_server.tool_schemas import RESULT, shorten
from kataven.validation import errors_of, in_words

UNUSED_METHODS = (
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/read",
    "resources/templates/list",
)
"""The library serves these methods for every server and advertises them as capabilities. This server has no prompts and
no resources, and its tools never change, so a client would request empty lists."""


class StrictServer(MCPServer[Any]):
    """Raises ToolError with a message for the model if arguments are invalid. It doesn't repeat their values."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, subscriptions=False, **options)
        for method in UNUSED_METHODS:
            # The library has no public way to omit them. A test reads the capabilities.
            self._lowlevel_server._request_handlers.pop(method, None)

    async def list_tools(self) -> list[Tool]:
        return [
            tool.model_copy(
                update={
                    "input_schema": {**shorten(tool.input_schema), "additionalProperties": False},
                    "output_schema": RESULT,
                }
            )
            for tool in await super().list_tools()
        ]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        known = await self._arguments_of(name)
        if known is not None and (unknown := sorted(set(arguments) - known)):
            accepted = ", ".join(sorted(known)) or "none"
            problems = [f"{_safe_name(one)}: is not a known argument; this tool accepts: {accepted}" for one in unknown]
            raise ToolError(_refusal(name, problems))
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            problems = _problems(error.__cause__)
        raise ToolError(_refusal(name, problems))

    async def _arguments_of(self, name: str) -> set[str] | None:
        for tool in await super().list_tools():
            if tool.name == name:
                return set(tool.input_schema["properties"])
        return None


def _refusal(name: str, problems: list[str]) -> str:
    lines = "".join(f"\n- {problem}" for problem in problems)
    return f"Error executing tool {name}: the arguments are invalid.{lines}\nWhat to do: {CORRECT}"


def _problems(error: ValidationError) -> list[str]:
    return [f"{_safe_name('.'.join(map(str, one['loc'])))}: {in_words(one)}" for one in errors_of(error)]


def _safe_name(name: str) -> str:
    """The argument's name, unless it could be a secret in the wrong place: errors are logged."""
    return name if len(name) <= 40 and "_live_" not in name else "an argument with an invalid name"
