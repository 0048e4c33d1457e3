"""The generated modules of the SDK and the MCP server equal what `make generate` writes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools import generate_client
from tools.generate_client import GenerationError, modules
from tools.openapi.print_document import openapi_document

ROOT = generate_client.ROOT
MODULES = ("kataven/client/models.py", "kataven/client/fields.py", "kataven/mcp_server/inputs.py")

Json = dict[str, Any]
Edit = Callable[[Json], None]


@pytest.fixture(scope="module")
def document() -> Json:
    return openapi_document()


@pytest.fixture(scope="module")
def generated(document: Json) -> dict[str, str]:
    return {str(path.relative_to(ROOT)): source for path, source in modules(document).items()}


def edited(document: Json, edit: Edit) -> Json:
    changed = copy.deepcopy(document)
    edit(changed["components"]["schemas"])
    return changed


def test_generator_writes_these_modules(generated: dict[str, str]) -> None:
    assert set(generated) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_is_current(generated: dict[str, str], module: str) -> None:
    assert (ROOT / module).read_text(encoding="utf-8") == generated[module], "run `make generate`"


def test_new_field_of_the_api_reaches_all_modules(document: Json) -> None:
    language = {"anyOf": [{"type": "string", "maxLength": 35}, {"type": "null"}], "description": "A BCP 47 tag."}

    def add(schemas: Json) -> None:
        for name in ("Agent", "AgentPatch"):
            schemas[name]["properties"]["language"] = language
        schemas["Agent"]["required"].append("language")

    found = {str(path.relative_to(ROOT)): source for path, source in modules(edited(document, add)).items()}
    assert '    language: str | None\n    """A BCP 47 tag."""' in found["kataven/client/models.py"]
    assert '    language: str | None\n    """A BCP 47 tag."""' in found["kataven/client/fields.py"]
    line = '    language: str | None = Field(OMITTED, max_length=35, description="A BCP 47 tag.")'
    assert line in found["kataven/mcp_server/inputs.py"]


def test_optional_field_of_a_response_may_be_missing(document: Json) -> None:
    def add(schemas: Json) -> None:
        schemas["Limit"]["properties"]["reset"] = {"type": "integer"}

    assert "    reset: int | None = None" in modules(edited(document, add))[ROOT / "kataven/client/models.py"]


def test_optional_secret_is_hidden_from_repr(document: Json) -> None:
    def change(schemas: Json) -> None:
        schemas["NewWidgetKey"]["required"].remove("key")

    source = modules(edited(document, change))[ROOT / "kataven/client/models.py"]
    assert "    key: str | None = field(default=None, repr=False)" in source


def _remove_schema(schemas: Json) -> None:
    del schemas["Limit"]


def _refer_to_unmapped_object(schemas: Json) -> None:
    schemas["Agent"]["properties"]["owner"] = {"$ref": "#/components/schemas/UserToken"}


def _use_untranslatable_type(schemas: Json) -> None:
    schemas["Agent"]["properties"]["labels"] = {"type": "object"}


def _use_unknown_format(schemas: Json) -> None:
    schemas["Agent"]["properties"]["birthday"] = {"type": "string", "format": "date"}


def _use_alternatives(schemas: Json) -> None:
    schemas["Agent"]["properties"]["size"] = {"anyOf": [{"type": "integer"}, {"type": "string"}]}


def _add_secret(schemas: Json) -> None:
    schemas["ApiKey"]["properties"]["key"] = {"type": "string"}


def _remove_secret(schemas: Json) -> None:
    del schemas["NewWidgetKey"]["properties"]["snippet"]


def _differ_from_base(schemas: Json) -> None:
    schemas["NewWidgetKey"]["properties"]["name"] = {"type": "integer"}


def _remove_default(schemas: Json) -> None:
    del schemas["AgentInput"]["properties"]["category"]["x-default"]


def _remove_description(schemas: Json) -> None:
    schemas["Me"]["description"] = ""


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_remove_schema, "no schema Limit"),
        (_refer_to_unmapped_object, "No class for UserToken"),
        (_use_untranslatable_type, "No Python type"),
        (_use_unknown_format, "No Python type"),
        (_use_alternatives, "No Python type"),
        (_add_secret, r"ApiKey\.key may be a secret"),
        (_remove_secret, "NewWidgetKey has no field snippet"),
        (_differ_from_base, r"NewWidgetKey\.name differs from WidgetKey\.name"),
        (_remove_default, r"AgentInput\.category has no default"),
        (_remove_description, "Me has no description"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_generator_reports_what_it_cannot_translate(document: Json, edit: Edit, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        modules(edited(document, edit))
