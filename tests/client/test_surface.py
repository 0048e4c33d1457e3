"""Both clients have the same interface, and the package imports no other part of the project."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

from kataven import client
from kataven.api.agents import AgentView
from kataven.api.api_keys import ApiKeyView
from kataven.api.me import MeView
from kataven.api.widget_keys import ChangedWidgetKeyView, NewWidgetKeyView, RemovedWidgetKeyView
from kataven.api.widget_settings import BrandingView
from kataven.client import asynchronous, errors, fields, models, sync
from kataven.web.inputs.agents import AgentInput
from kataven.web.inputs.branding import BrandingPatch
from kataven.web.inputs.widget_keys import WidgetKeyPatch
from kataven.web.problems import PROBLEM_TYPES

FORBIDDEN = ("flask", "werkzeug", "sqlalchemy", "psycopg2", "redis", "grpc", "pydantic", "mcp")
PAIRS = [
    (sync.KatavenClient, asynchronous.AsyncKatavenClient),
    (sync.Agents, asynchronous.Agents),
    (sync.WidgetKeys, asynchronous.WidgetKeys),
    (sync.WidgetSettings, asynchronous.WidgetSettings),
    (sync.ApiKeys, asynchronous.ApiKeys),
    (sync.Usage, asynchronous.Usage),
    (sync.Requests, asynchronous.Requests),
]


def methods(kind: type) -> dict[str, tuple[str, str | None]]:
    found = {}
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_") or name == "__init__":
            signature = str(inspect.signature(method)).replace("AsyncIterator", "Iterator")
            found[name] = (signature, inspect.getdoc(method))
    return found


@pytest.mark.parametrize(("waits", "awaits"), PAIRS, ids=[pair[0].__name__ for pair in PAIRS])
def test_both_clients_have_the_same_methods_signatures_and_docstrings(waits: type, awaits: type) -> None:
    assert methods(waits) == methods(awaits)


def test_async_methods_that_send_requests_are_coroutines() -> None:
    for _, awaits in PAIRS:
        for name, method in inspect.getmembers(awaits, inspect.isfunction):
            if not name.startswith("_") and name != "list":
                assert inspect.iscoroutinefunction(method), name


def test_importing_the_client_imports_no_other_package_of_the_project() -> None:
    ask = "import sys, kataven.client; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.partition(".")[0] in FORBIDDEN]
    assert not [name for name in loaded if re.match(r"kataven\.(?!client\b)", name)]


def test_all_errors_and_models_are_exported() -> None:
    family = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    shapes = {name for name, kind in vars(models).items() if hasattr(kind, "__dataclass_fields__")}
    assert family | shapes <= set(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)


def test_error_hierarchy_in_the_docstring_is_complete() -> None:
    drawn = re.findall(
        r"([A-Z]\w+(?:Error|Failed|TimedOut|Response))\s+raised|([A-Z]\w+Error)\s+(?:\d|5xx)", errors.__doc__
    )
    family = {kind.__name__ for kind in descendants(errors.KatavenError)}
    assert {name for names in drawn for name in names if name} == family


def descendants(kind: type) -> set[type]:
    return {kind for child in kind.__subclasses__() for kind in ({child} | descendants(child))}


@pytest.mark.parametrize(
    ("model", "view"),
    [
        (models.Agent, AgentView),
        (models.NewWidgetKey, NewWidgetKeyView),
        (models.WidgetKey, ChangedWidgetKeyView),
        (models.RemovedWidgetKey, RemovedWidgetKeyView),
        (models.WidgetSettings, BrandingView),
        (models.ApiKey, ApiKeyView),
        (models.Me, MeView),
    ],
)
def test_models_have_the_fields_of_the_api_responses(model: Any, view: Any) -> None:
    assert set(model.__dataclass_fields__) - {"etag", "receipt"} == set(view.model_fields) - {"receipt"}


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        (fields.AgentChanges, AgentInput),
        (fields.WidgetKeyChanges, WidgetKeyPatch),
        (fields.WidgetSettingsChanges, BrandingPatch),
    ],
)
def test_typed_fields_equal_the_inputs_of_the_api(sent: Any, accepted: Any) -> None:
    hints = get_type_hints(sent)
    assert set(hints) == set(accepted.model_fields)
    for name, hint in hints.items():
        choices = getattr(accepted.model_fields[name].annotation, "__members__", None)
        if choices is not None:
            assert {str(choice) for choice in choices.values()} == set(get_args(hint)), name


def test_409_raises_conflict_error() -> None:
    problem = errors.Problem(status=409, code="conflict", detail="The agent is archived. Restore it first.")
    error = errors.error_for(problem)
    assert type(error) is errors.ConflictError
    assert str(error) == "409 conflict: The agent is archived. Restore it first."


def test_every_problem_type_of_the_api_has_an_error_class() -> None:
    for code, kind in PROBLEM_TYPES.items():
        problem = errors.Problem(status=kind.status, code=code, detail="")
        assert type(errors.error_for(problem)) is not errors.ApiError or kind.status == 405
