"""Arguments of the tools that are not fields of the API, and the base classes of those that are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

AgentId = Annotated[str, Field(description="The agent's id (a UUID), from kataven_list_agents.")]
WidgetKeyId = Annotated[str, Field(description="The widget key's id (a UUID), from kataven_list_widget_keys.")]
IfMatch = Annotated[
    str | None,
    Field(description="The `etag` that you read. The call is rejected if the resource has changed since."),
]
Cursor = Annotated[str | None, Field(description="`next_cursor` of the previous page. Omit it for the first page.")]
PageSize = Annotated[int, Field(ge=1, le=100, description="Maximum number of items.")]

OMITTED: Any = None
"""The Python default of a field of `Changes`. It is never sent, and it is not part of the JSON Schema."""


class Fields(BaseModel):
    """Fields of a resource to create. Omitted fields get the default of the API."""

    model_config = ConfigDict(extra="forbid")

    def given(self) -> Any:
        """The fields that were sent, including those that are null."""
        return self.model_dump(exclude_unset=True)


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class Changes(Fields):
    """Fields of a resource to update. Omitted fields keep their values, so the JSON Schema shows no defaults."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)
